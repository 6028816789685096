"""Messages made by hand, and what parsing them gives: shared by the tests of venues."""

import json
from typing import Any

import pytest

from tapeline.connectors.venues import Parsed, Sequences, parse_frame
from tapeline.schemas import RawFrame, RejectReason

MS = 1_000_000
RECV_NS = 1_723_161_600_000_000_000
FIELDS = ("kind", "ts_event_ns", "sequence", "side", "flags", "price", "size", "price2", "size2")
Rows = list[tuple[Any, ...]]
Edit = tuple[tuple[str | int, ...], Any]
"""Where in a message, and what is put there; GONE: nothing."""
GONE = object()


def encoded(*messages: Any) -> list[bytes]:
    return [one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() for one in messages]


def parse(venue: str, *messages: Any, state: Sequences | None = None) -> Parsed:
    """Parse messages of one frame; the n-th was received n ns after RECV_NS."""
    data = encoded(*messages)
    times = range(RECV_NS, RECV_NS + len(data))
    return parse_frame(RawFrame.build(f"{venue}/x", 0, times, data), {} if state is None else state)


def rows(parsed: Parsed) -> Rows:
    return [tuple(tick[field].item() for field in FIELDS) for tick in parsed.ticks]


def edited(message: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of a message (its JSON) with another value somewhere."""
    copy = json.loads(json.dumps(message))
    at = copy
    for step in path[:-1]:
        at = at[step]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return copy


def assert_good(venue: str, message: Any, expected: Rows, names: tuple[str, ...]) -> None:
    parsed = parse(venue, message)
    assert parsed.rejects == ()
    assert rows(parsed) == expected
    assert parsed.names == tuple(f"{venue}:{name}" for name in names)


def assert_malformed(venue: str, message: Any, edit: Edit, says: str) -> None:
    """One reject that says what is wrong; the messages around it are read, and the state is as without it."""
    path, value = edit
    alone: Sequences = {}
    parse(venue, message, state=alone)
    state: Sequences = {}
    parsed = parse(venue, edited(message, path, value), message, state=state)
    (reject,) = parsed.rejects
    assert (reject.index, reject.reason) == (0, RejectReason.MALFORMED), reject
    assert says in reject.detail, reject
    assert state == alone, "what is rejected leaves no trace"
    without = parse(venue, b"\x00", message)
    assert rows(parsed) == rows(without)


def assert_unknown(venue: str, message: Any, says: str = "") -> None:
    parsed = parse(venue, message)
    (reject,) = parsed.rejects
    assert (reject.index, reject.reason) == (0, RejectReason.UNKNOWN), reject
    assert says in reject.detail, reject
    assert len(parsed.ticks) == 0


def assert_control(venue: str, message: Any) -> None:
    """Neither ticks nor rejects."""
    parsed = parse(venue, message)
    assert (len(parsed.ticks), parsed.rejects) == (0, ())


def odd(*values: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("value", values, ids=str)


BAD_TEXT_NUMBERS: tuple[Any, ...] = ("NaN", "-1", "+1", "1e5", "1_000", " 1", "", ".", "1.2.3", "9" * 400, 1.5, 1, True)
BAD_TEXT_NUMBERS += (None, [], ["1"], {})
BAD_NUMBERS: tuple[Any, ...] = ("1", -1, -0.5, 1e15, 1e300, True, None, [], {}, [1])
BAD_ISO_TIMES: tuple[Any, ...] = (
    *("2026-08-09", "2026-08-09T21:05:48", "2026-13-09T21:05:48Z", "2026-02-30T21:05:48Z", "2026-08-09T24:05:48Z"),
    *("2026-08-09T21:05:60Z", "2026-08-09T21:05:48.1234567891Z", "2026-08-09 21:05:48Z", "1969-08-09T21:05:48Z"),
    *("2300-01-01T00:00:00Z", "NaT", "now", "", "2026-08-09T21:05:48+00:00", "2026-08-09T21:05:48.Z", 1, None, [], {}),
    "２026-08-09T21:05:48Z",
)
