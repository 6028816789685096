"""The trading logic of every peer: two exponential averages of a symbol's price that cross. What a user writes by hand.

No imports: Quix Streams runs it in an environment of its own.
"""

States = dict[str, list[float]]
"""symbol -> [fast average, slow average, trades seen, last side]; changed in place."""


def ema_cross(states: States, symbol: str, price: float, fast: int, slow: int) -> tuple[int, float] | None:
    """Take a trade; return (side, strength) if the averages crossed. fast, slow: periods in trades."""
    state = states.get(symbol)
    if state is None:
        state = states[symbol] = [price, price, 0, 0]
    state[0] += (price - state[0]) * 2 / (fast + 1)
    state[1] += (price - state[1]) * 2 / (slow + 1)
    state[2] += 1
    side = 1 if state[0] > state[1] else -1
    if side == state[3] or state[2] < slow:
        return None
    state[3] = side
    return side, abs(state[0] - state[1]) / price
