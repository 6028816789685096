"""Breakout: a trade outside the range of those before it. Fails in thin markets, where one odd print is a range."""

from math import inf
from typing import Any

from tapeline.agents.logic.authoring import BUY, HOLD, SELL, Param, Signal, logic


@logic(
    params={"window": Param(500, 10, 1_000_000), "margin_bps": Param(1.0, 0.0, 1000.0)},
    state={"n": int, "high": float, "low": float, "high_before": float, "low_before": float, "side": int},
    kinds="trade",
)
def breakout(tick: Any, state: Any, params: Any) -> Signal:
    """Buy above the highest, sell below the lowest price of the last `window` to twice `window` trades.

    The range is that of the full block of `window` trades before and of the block being filled; a price must
    leave it by `margin_bps` basis points.
    """
    price = tick.price
    if state.n % params.window == 0:
        state.high_before = state.high
        state.low_before = state.low
        state.high = -inf
        state.low = inf
    side = 0
    strength = 0.0
    if state.n >= params.window:
        high = max(state.high, state.high_before)
        low = min(state.low, state.low_before)
        margin = params.margin_bps / 10_000
        if price > high * (1 + margin):
            side = BUY
            strength = price / high - 1
        elif price < low * (1 - margin):
            side = SELL
            strength = 1 - price / low
    state.high = max(state.high, price)
    state.low = min(state.low, price)
    state.n += 1
    if side == 0 or side == state.side:
        return HOLD
    state.side = side
    return Signal(side, strength)
