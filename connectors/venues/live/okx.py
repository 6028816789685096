"""OKX live: v5 public channels (www.okx.com/docs-v5, 2026).

Books are chained by seqId and prevSeqId; the checksum that they carried before 2026-06-23 is compared where it is not
0. At most 3 connections and requests a second, 480 requests an hour on a connection, which ends after 30 s of silence:
"ping" keeps it.
"""

from collections.abc import Sequence
from typing import Any

from tapeline.connectors.venues.live.contract import (
    Action,
    Complain,
    Dialect,
    GarbageError,
    InstrumentInfo,
    Plan,
    Say,
    Send,
    Session,
    StreamKind,
    chunks,
    load,
    text,
)
from tapeline.connectors.venues.live.textbook import TextBook
from tapeline.schemas import FeedGap, GapReason, Kind

TRADE, QUOTE, DEPTH = StreamKind
CHANNELS = {TRADE: "trades-all", QUOTE: "bbo-tbt", DEPTH: "books"}
ARGS_A_MESSAGE = 100


class OkxSession(Session):
    """One connection."""

    ping = Send("ping")
    pong = b"pong"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._last: dict[str, int] = {}  # seqId of the books that are whole
        self._books: dict[str, TextBook] = {}  # of those whose checksums are given

    def opened(self) -> list[Action]:
        """Subscribe."""
        args = [
            {"channel": CHANNELS[stream], "instId": symbol}
            for stream in sorted(self.plan.streams)
            for symbol in self.plan.symbols
        ]
        return [text({"op": "subscribe", "args": some}) for some in chunks(args, ARGS_A_MESSAGE)]

    def received(self, data: bytes, now_ns: int) -> Sequence[Action]:
        """Follow the numbers of books, compare them with their checksums."""
        if data == b"pong":
            return ()
        message = load(data)
        if not isinstance(message, dict):
            raise GarbageError("not a JSON object")
        if message.get("event") == "error":
            return [Complain(f"refuses a subscription: {message.get('code')} {message.get('msg')}")]
        try:
            if "event" in message or message["arg"]["channel"] != "books":
                return ()
            symbol, snapshot = message["arg"]["instId"], message["action"] == "snapshot"
            actions = [self._check(symbol, book, snapshot=snapshot) for book in message["data"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise GarbageError(f"a message with a field that is missing or wrong: {error!r}") from error
        return [action for some in actions for action in some]

    def _check(self, symbol: str, message: dict[str, Any], *, snapshot: bool) -> list[Action]:
        checksum, number, before = int(message.get("checksum", 0)), int(message["seqId"]), int(message["prevSeqId"])
        if snapshot:
            self._books.pop(symbol, None)
            if checksum:
                self._books[symbol] = TextBook()
        elif symbol not in self._last:  # until the next snapshot
            return []
        elif before != self._last[symbol]:
            return self._renew(symbol)  # the numbers themselves make the gap
        self._last[symbol] = number
        book = self._books.get(symbol)
        if book is None:
            return []
        book.update(*([(level[0], level[1]) for level in message[side]] for side in ("bids", "asks")))
        if not checksum or book.okx_checksum() == checksum:
            return []
        return [Say(FeedGap(reason=GapReason.CHECKSUM, symbols=(symbol,), kind=Kind.BOOK)), *self._renew(symbol)]

    def _renew(self, symbol: str) -> list[Action]:
        self._last.pop(symbol, None)
        self._books.pop(symbol, None)
        args = [{"channel": CHANNELS[DEPTH], "instId": symbol}]
        return [text({"op": "unsubscribe", "args": args}), text({"op": "subscribe", "args": args})]


def describe(answer: Any) -> list[InstrumentInfo]:
    """Read `instruments` of one type."""
    return [_describe(one) for one in answer["data"]]


def _describe(one: Any) -> InstrumentInfo:
    spot = one["instType"] == "SPOT"
    base, quote = (one["baseCcy"], one["quoteCcy"]) if spot else [*one["uly"].split("-"), ""][:2]
    settle = one["quoteCcy"] if spot else one["settleCcy"]
    return InstrumentInfo(
        one["instId"],
        base or None,
        quote or None,
        settle or None,
        one["ctVal"] or None,
        one["tickSz"] or None,
        one["lotSz"] or None,
        one["state"] or None,
    )


OKX = Dialect(
    "okx",
    "wss://ws.okx.com:8443/ws/v5/public",
    "https://www.okx.com",
    frozenset(StreamKind),
    OkxSession,
    symbols_max=50,
    sends_per_second=2,
    fetches_per_second=2,
    instruments=tuple(f"/api/v5/public/instruments?instType={kind}" for kind in ("SPOT", "SWAP", "FUTURES")),
    describe=describe,
    connects_per_second=2,
)
