"""The soak: a steady feed for minutes, with memory and lag watched. See docs/chaos.md."""
