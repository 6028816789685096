"""Bybit's tickers, which say only what has changed, as ticks: quotes, mark prices, funding. `bybit` calls it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tapeline.connectors.venues.assembly import set_flag
from tapeline.connectors.venues.columns import INTEGER_MAX, MS_MAX, decimals, digits, inexact, is_symbol, signed
from tapeline.connectors.venues.contract import Sequences
from tapeline.connectors.venues.reading import Event, Read, Row
from tapeline.schemas import Flag, Kind, RejectReason, Ticks, empty_ticks

TICKER_KEY = "connection/ticker/"
"""State: + symbol -> the FIELDS of its ticker, UNSAID what it has not said yet."""
UNSAID = "?"
TEXT = {str}
_NUMBER = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,30})?)?")
_NUMBERS = re.compile(rf"{_NUMBER.pattern}(?: {_NUMBER.pattern})*")
FIELDS: dict[str, re.Pattern[str]] = {
    **dict.fromkeys(("bid1Price", "bid1Size", "ask1Price", "ask1Size", "markPrice", "indexPrice"), _NUMBER),
    "fundingRate": re.compile(r"(?:-?[0-9]{1,15}(?:\.[0-9]{1,30})?)?"),
    "nextFundingTime": re.compile(r"[0-9]{0,13}"),
}
"""What is kept of a ticker, and how it is written; an empty text is none."""
_PLACES = {field: place for place, field in enumerate(FIELDS)}
_NAMES = list(FIELDS)
TICKS_OF = (
    ("quote", slice(0, 4), frozenset(_NAMES[0:4]), 4),
    ("mark", slice(4, 6), frozenset(_NAMES[4:6]), 1),
    ("funding", slice(6, 8), frozenset(_NAMES[6:8]), 1),
)
"""Kind of tick, its fields, and how many of the first of them must have been said."""


def ticker_events(state: Sequences, message: Mapping[str, Any], data: Any) -> list[Event]:
    """Take what a ticker says over what it said before; return the ticks that it makes, or what is wrong with it.

    Everything is checked before `state` is changed: what is kept is never at fault later.
    """
    if not isinstance(data, dict) or not isinstance(symbol := data.get("symbol"), str):
        return [(RejectReason.MALFORMED, "tickers without an object that has a symbol")]
    said = [field for field in FIELDS if field in data]
    values = [data[field] for field in said]
    key = TICKER_KEY + symbol
    kept = state.get(key)
    known = kept is not None or is_symbol(symbol)
    if not known or (fault := _fault(message, said, values)) is not None:
        return [(RejectReason.MALFORMED, fault if known else "symbol of tickers is no symbol")]
    if not said:
        return []
    now = kept.split(" ") if isinstance(kept, str) and message["type"] == "delta" else [UNSAID] * len(FIELDS)
    for field, value in zip(said, values, strict=True):
        now[_PLACES[field]] = value
    state[key] = " ".join(now)
    head = symbol, message["ts"], message.get("cs", 0)
    return [
        (kind, (*head, *now[part]))
        for kind, part, fields, least in TICKS_OF
        if not fields.isdisjoint(said) and UNSAID not in now[part][:least] and (least > 1 or now[part.start])
    ]


def _fault(message: Mapping[str, Any], said: list[str], values: list[Any]) -> str | None:
    """Say what is wrong with a ticker whose fields `said` have these values."""
    if message.get("type") not in ("snapshot", "delta"):
        return "type of tickers is no snapshot or delta"
    ts, number = message.get("ts"), message.get("cs", 0)
    if type(ts) is not int or not 0 <= ts <= MS_MAX:
        return f"ts of tickers is not between 0 and {MS_MAX}"
    if type(number) is not int or not 0 <= number <= INTEGER_MAX:
        return f"cs of tickers is not between 0 and {INTEGER_MAX}"
    if set(map(type, values)) <= TEXT and "nextFundingTime" not in said:  # at once, as nearly all of them are
        joined = " ".join(values)
        if _NUMBERS.fullmatch(joined) and joined.count(" ") < len(values):
            return None
    for field, value in zip(said, values, strict=True):
        if type(value) is not str or FIELDS[field].fullmatch(value) is None:
            return f"{field} is not a decimal number"
    return None


def marks(rows: Sequence[Row]) -> Read:
    """Convert (symbol, time, number, mark price, index price) to MARK ticks."""
    symbol, time, number, mark, index = zip(*rows, strict=True)
    ticks = _ticks(Kind.MARK, time, number)
    for column, values in (("price", mark), ("price2", _given(index))):
        ticks[column] = decimals(values, column)
        set_flag(ticks, inexact(values), Flag.INEXACT)
    return Read(symbol, ticks)


def fundings(rows: Sequence[Row]) -> Read:
    """Convert (symbol, time, number, rate, time of payment) to FUNDING ticks."""
    symbol, time, number, rate, paid = zip(*rows, strict=True)
    ticks = _ticks(Kind.FUNDING, time, number)
    ticks["price"] = signed(rate, "fundingRate")
    set_flag(ticks, inexact([value.removeprefix("-") for value in rate]), Flag.INEXACT)
    ticks["size"] = digits(_given(paid), "nextFundingTime") / 1000
    return Read(symbol, ticks)


def _ticks(kind: Kind, time: Sequence[int], number: Sequence[int]) -> Ticks:
    ticks = empty_ticks(len(time))
    ticks["kind"] = kind
    ticks["ts_event_ns"] = time
    ticks["ts_event_ns"] *= 1_000_000
    ticks["sequence"] = number
    return ticks


def _given(values: Sequence[str]) -> list[str]:
    return ["0" if value in ("", UNSAID) else value for value in values]
