"""`tapeline demo`: a market becomes signals, live. `command` runs it, `market` is what is shown, `watch` looks, `meter`
counts, `view` draws."""

from tapeline.agents.demo.command import demo

__all__ = ["demo"]
