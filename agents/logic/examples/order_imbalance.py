"""Order imbalance: more size waiting on one side of the quote. Fails where size is shown, not meant."""

from typing import Any

from tapeline.agents.logic.authoring import BUY, HOLD, SELL, Param, Signal, logic


@logic(
    params={"smooth": Param(50, 1, 10_000), "enter": Param(0.6, 0.01, 1.0), "leave": Param(0.2, 0.0, 1.0)},
    state={"n": int, "imbalance": float, "side": int},
    kinds="quote",
)
def order_imbalance(tick: Any, state: Any, params: Any) -> Signal:
    """Buy when the smoothed imbalance of quoted sizes rises above `enter`, sell when it falls below -`enter`.

    The imbalance is (bid - ask) / (bid + ask). After a signal the next one of the same side comes only once the
    imbalance was inside `leave`. Quotes with a side or a size not given are passed over.
    """
    if tick.size <= 0 or tick.size2 <= 0 or tick.price <= 0 or tick.price2 <= 0:
        return HOLD
    now = (tick.size - tick.size2) / (tick.size + tick.size2)
    if state.n == 0:
        state.imbalance = now
    state.n += 1
    state.imbalance += (now - state.imbalance) * 2 / (params.smooth + 1)
    if abs(state.imbalance) < params.leave:
        state.side = 0
    if state.n < params.smooth or abs(state.imbalance) < params.enter:
        return HOLD
    side = BUY if state.imbalance > 0 else SELL
    if side == state.side:
        return HOLD
    state.side = side
    return Signal(side, abs(state.imbalance))
