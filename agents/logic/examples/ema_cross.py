"""Trend: two exponential averages of the trade price that cross. Fails in sideways markets: it pays twice a swing."""

from typing import Any

from tapeline.agents.logic.authoring import BUY, HOLD, SELL, Param, Signal, logic


@logic(
    params={"fast": Param(20, 2, 200), "slow": Param(50, 5, 500)},
    state={"fast": float, "slow": float, "n": int, "side": int},
    kinds="trade",
)
def ema_cross(tick: Any, state: Any, params: Any) -> Signal:
    """Buy when the fast EMA crosses above the slow one, sell when it crosses below."""
    if state.n == 0:
        state.fast = state.slow = tick.price
    state.n += 1
    state.fast += (tick.price - state.fast) * 2 / (params.fast + 1)
    state.slow += (tick.price - state.slow) * 2 / (params.slow + 1)
    side = BUY if state.fast > state.slow else SELL
    if side == state.side or state.n < params.slow:
        return HOLD
    state.side = side
    return Signal(side, abs(state.fast - state.slow) / tick.price)
