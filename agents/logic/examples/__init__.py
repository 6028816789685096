"""The logics that ship: short, real, and the only ones that run on shared workers so far."""

from tapeline.agents.logic.authoring import Logic
from tapeline.agents.logic.examples.breakout import breakout
from tapeline.agents.logic.examples.ema_cross import ema_cross
from tapeline.agents.logic.examples.order_imbalance import order_imbalance

SHIPPED: dict[str, Logic] = {logic.name: logic for logic in (ema_cross, breakout, order_imbalance)}

__all__ = ["SHIPPED", "breakout", "ema_cross", "order_imbalance"]
