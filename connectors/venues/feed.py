"""What our own feed says in `raw` (schemas/feed.py), as ticks. `parse_frame` calls it for frames flagged FEED.

connect  no tick; what the venue counts or says from the beginning of a connection is forgotten, and what it sends
         again of numbers that came before is left out, a stream at a time until the first new one
gap      GAP  one a symbol, with the reason
answer   the BOOK ticks of a snapshot that the venue's REST gave
"""

import numpy as np

from tapeline.connectors.venues.assembly import REPEATS
from tapeline.connectors.venues.contract import Parsed, Reject, Sequences, Venue
from tapeline.schemas import (
    EventError,
    FeedAnswer,
    FeedConnect,
    FeedGap,
    Kind,
    RawFrame,
    RejectReason,
    Ticks,
    decode_feed,
    empty_ticks,
)

LEASE = "lease/"
"""State keys that begin so are the caller's."""
CONNECTION = "connection/"
"""State keys that begin so belong to one connection to the venue, and end with it."""


def parse_feed(venue: Venue, frame: RawFrame, state: Sequences) -> Parsed:
    """Return the ticks of a frame flagged FEED; `state` is its connection's and is changed."""
    ticks: list[Ticks] = []
    names: dict[str, int] = {}
    rejects: list[Reject] = []
    for index, (message, recv_ns) in enumerate(zip(frame.messages(), frame.recv_ns.tolist(), strict=True)):
        try:
            event = decode_feed(message)
        except EventError as error:
            rejects.append(Reject(index, RejectReason.MALFORMED, str(error)))
            continue
        match event:
            case FeedConnect():
                for key in [key for key in state if key.startswith(CONNECTION)]:
                    del state[key]
                state[REPEATS] = " ".join(
                    key for key, value in state.items() if isinstance(value, int) and not key.startswith(LEASE)
                )
            case FeedGap():
                ticks.append(_gaps(event, recv_ns))
                _number(ticks[-1], [f"{venue.name}:{symbol}" for symbol in event.symbols], names)
            case FeedAnswer():
                parsed = _answer(venue, event, recv_ns, state)
                rejects += [Reject(index, one.reason, one.detail) for one in parsed.rejects]
                ticks.append(parsed.ticks)
                _number(ticks[-1], parsed.names, names)
    return Parsed(np.concatenate(ticks) if ticks else empty_ticks(0), tuple(names), tuple(rejects))


def _number(ticks: Ticks, own: list[str] | tuple[str, ...], names: dict[str, int]) -> None:
    """Let the ticks' instruments be places in `names` instead of in `own`; `names` grows."""
    for name in own:
        names.setdefault(name, len(names))
    if len(ticks):
        ticks["instrument_id"] = np.array([names[name] for name in own], np.uint32)[ticks["instrument_id"]]


def _gaps(event: FeedGap, recv_ns: int) -> Ticks:
    gaps = empty_ticks(len(event.symbols))
    gaps["ts_event_ns"] = gaps["ts_recv_ns"] = recv_ns
    gaps["instrument_id"] = np.arange(len(event.symbols))
    gaps["kind"] = Kind.GAP
    gaps["size"] = event.missing
    gaps["price"] = event.reason
    gaps["price2"] = event.kind or 0
    return gaps


def _answer(venue: Venue, event: FeedAnswer, recv_ns: int, state: Sequences) -> Parsed:
    if venue.snapshot is None:
        reject = Reject(0, RejectReason.UNKNOWN, f"no answers of {venue.name}'s REST are read here: {event.url}")
        return Parsed(empty_ticks(0), (), (reject,))
    frame = RawFrame.build(f"{venue.name}/rest", 1, [recv_ns], [event.data.encode()])
    return venue.snapshot(frame, event.symbol, state)
