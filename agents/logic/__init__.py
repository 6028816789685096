"""Writing and hosting trading logics. Pure: no I/O, no broker, no clock."""

from tapeline.agents.logic.authoring import BUY, HOLD, SELL, Logic, LogicError, Param, Signal, logic

__all__ = ["BUY", "HOLD", "SELL", "Logic", "LogicError", "Param", "Signal", "logic"]
