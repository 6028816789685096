"""What a trading logic is written with: `logic`, `Param`, `Signal` and the sides. Compiled form.

A handler is one function of (tick, state, params). numba compiles it; plain Python runs the very same
function. `tick` has the fields of TICK, `state` is the instrument's own record, zero at first.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from tapeline.schemas import Kind, TapelineError, computed_id

BUY, SELL = 1, -1
"""Sides of a Signal."""


class Signal(NamedTuple):
    """What a handler returns when it has something to say: BUY or SELL, and how strongly (a finite number)."""

    side: int
    strength: float


HOLD = Signal(0, 0.0)
"""What a handler returns when it has nothing to say."""

Number = int | float
Handler = Callable[[Any, Any, Any], Signal]


class LogicError(TapelineError):
    """A logic, or the parameters it is given, cannot be used; says which and what would be right."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: its default (int or float decides its type) and the range it may have, both ends included."""

    default: Number
    low: Number
    high: Number

    def check(self, name: str, value: object) -> Number:
        """Return the value in the parameter's own type; raise LogicError if it is none or out of range."""
        kind = type(self.default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or kind(value) != value:
            wanted = "a whole number" if kind is int else "a number"
            raise LogicError(f"{name} must be {wanted} from {self.low} to {self.high}, not {value!r}")
        if not self.low <= value <= self.high:
            raise LogicError(f"{name} must be from {self.low} to {self.high}, not {value!r}")
        return kind(value)


@dataclass(frozen=True, slots=True)
class Logic:
    """A declared logic. state: field name -> int or float; kinds: which ticks it is called for."""

    name: str
    version: str
    doc: str
    handler: Handler
    params: Mapping[str, Param]
    state: Mapping[str, type]
    kinds: tuple[Kind, ...]

    def state_dtype(self) -> np.dtype[np.void]:
        """The record of one instrument's state."""
        return np.dtype([(name, "<i8" if kind is int else "<f8") for name, kind in self.state.items()])

    def bind(self, given: Mapping[str, object]) -> dict[str, Number]:
        """Return all parameters, defaults filled in; raise LogicError for one that is unknown or out of range."""
        for name in given:
            if name not in self.params:
                known = ", ".join(self.params) or "none"
                raise LogicError(f"{self.name} has no parameter {name}; it has: {known}")
        return {name: param.check(name, given.get(name, param.default)) for name, param in self.params.items()}

    def params_record(self, params: Mapping[str, Number]) -> np.ndarray[Any, Any]:
        """Return bound parameters as an array of one record, for the handler."""
        record = np.zeros(1, [(name, "<i8" if isinstance(value, int) else "<f8") for name, value in params.items()])
        for name, value in params.items():
            record[name] = value
        return record


def logic(
    *,
    params: Mapping[str, Param],
    state: Mapping[str, type],
    kinds: str,
    version: str = "1",
) -> Callable[[Handler], Logic]:
    """Declare a handler as a logic.

    params: what can be set; state: fields of each instrument's record (`int` or `float`), zero at first;
    kinds: comma-separated tick kinds it is called for ("trade", "quote,trade"); version: change it with the code,
    signal ids depend on it. Raises LogicError for a declaration that cannot work.
    """
    try:
        wanted = tuple(Kind[kind.strip().upper()] for kind in kinds.split(","))
    except KeyError as error:
        names = ", ".join(kind.name.lower() for kind in Kind)
        raise LogicError(f"there is no tick kind {error.args[0].lower()!r}; there are: {names}") from None
    for name, kind in state.items():
        if kind not in (int, float):
            raise LogicError(f"state field {name} must be int or float, not {kind!r}")

    def declare(handler: Handler) -> Logic:
        name = handler.__name__
        if len(inspect.signature(handler).parameters) != 3:
            raise LogicError(f"{name} must take (tick, state, params)")
        return Logic(name, version, inspect.getdoc(handler) or "", handler, dict(params), dict(state), wanted)

    return declare


def params_hash(params: Mapping[str, Number], instruments: Sequence[str]) -> str:
    """Return the hash of all that a logic was given, which signal ids and snapshots carry."""
    return computed_id(*(part for name in sorted(params) for part in (name, repr(params[name]))), *instruments)[:16]
