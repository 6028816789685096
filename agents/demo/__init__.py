"""`tapeline demo`: a simulated market becomes signals, live. `command` runs it, `watch` looks, `meter` counts, `view`
draws."""

from tapeline.agents.demo.command import demo

__all__ = ["demo"]
