"""How OKX writes the messages that `scan` reads; `okx` says what they mean and parses all others.

From the documents of 2026-06 and from recordings of 2022, when books had no numbers yet.
"""

from collections.abc import Iterator

from tapeline.connectors.venues.columns import MS_MAX
from tapeline.connectors.venues.shapes import (
    SYMBOL,
    TEXT,
    Field,
    Scanner,
    Step,
    Stream,
    bits,
    decimal,
    ends,
    integer,
    items,
    sets,
    skipped_number,
)
from tapeline.schemas import Flag, Kind

TRADES = ("trades", "trades-all")
TOP = "bbo-tbt"
FIVE = "books5"
BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt", FIVE)
STREAMS = (
    *(Stream(channel, Kind.TRADE, counted=False) for channel in TRADES),
    Stream(TOP, Kind.QUOTE, counted=False),
    *(Stream(channel, Kind.BOOK, counted=False) for channel in BOOKS),
)
_NUMBER = {stream.name: number for number, stream in enumerate(STREAMS)}

_MS = integer("TIME", most=MS_MAX, unit=1_000_000, zeros=True)
_ITEM: dict[str, Field] = {
    "symbol": SYMBOL,
    "text": TEXT,
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE"),
    "traded": decimal("SIZE", positive=True),
    "id": integer("SEQUENCE", zeros=True),
    "side": [[b"buy", sets(bits(side=1))], [b"sell", sets(bits(side=-1))]],
    "ms": _MS,
    "int": integer("NOWHERE"),
}
_LEVEL = '["<price>","<size>","<text>","<text>"]'
_TRADE = '{"instId":"<symbol>","tradeId":"<id>","px":"<price>","sz":"<traded>","side":"<side>","ts":"<ms>"'
_FIELDS: dict[str, Field] = {
    "symbol": SYMBOL,
    "text": TEXT,
    "number": skipped_number(),
    "ms": _MS,
    "asks": items(_LEVEL, _ITEM, side=-1),
    "bids": items(_LEVEL, _ITEM, side=1),
    "id": integer("SEQUENCE"),
    "id before": integer("BEFORE"),
    "bid": decimal("PRICE"),
    "bid size": decimal("SIZE"),
    "ask": decimal("PRICE2"),
    "ask size": decimal("SIZE2"),
    "trades": [
        way
        for tail in ("", ',"count":"<text>"', ',"count":"<text>","source":"<text>","seqId":<int>')
        for way in items(f"{_TRADE}{tail}}}", _ITEM, rows="EACH")
    ],
}


def _books() -> Iterator[tuple[str, Step]]:
    for channel in BOOKS[:-1]:
        book = f'{{"arg":{{"channel":"{channel}","instId":"<symbol>"}},"action":"%s",'
        book += '"data":[{"asks":<asks>,"bids":<bids>,"ts":"<ms>","checksum":<number>%s}]}'
        for action, flags in (("snapshot", Flag.SNAPSHOT), ("update", Flag(0))):
            yield book % (action, ""), ends(Kind.BOOK, flags=flags, turned=True)
            before = "-1" if flags else "<id before>"
            numbered = ends(Kind.BOOK, _NUMBER[channel], "AFRESH" if flags else "LINKED", flags=flags, turned=True)
            yield book % (action, f',"prevSeqId":{before},"seqId":<id>'), numbered
            yield book % (action, f',"seqId":<id>,"prevSeqId":{before}'), numbered
    yield (
        f'{{"arg":{{"channel":"{FIVE}","instId":"<symbol>"}},"data":[{{"asks":<asks>,"bids":<bids>,"instId":"<text>",'
        '"ts":"<ms>","seqId":<id>}]}',
        ends(Kind.BOOK, _NUMBER[FIVE], "AFRESH", flags=Flag.SNAPSHOT, turned=True),
    )


SCANNER = Scanner(
    [
        *_books(),
        *(
            (
                f'{{"arg":{{"channel":"{channel}","instId":"<text>"}},"data":<trades>}}',
                ends(Kind.TRADE, _NUMBER[channel], "LINKED", rows="EACH"),
            )
            for channel in TRADES
        ),
        (
            '{"arg":{"channel":"tickers","instId":"<text>"},"data":[{"instType":"<text>","instId":"<symbol>",'
            '"last":"<text>","lastSz":"<text>","askPx":"<ask>","askSz":"<ask size>","bidPx":"<bid>",'
            '"bidSz":"<bid size>","open24h":"<text>","high24h":"<text>","low24h":"<text>","sodUtc0":"<text>",'
            '"sodUtc8":"<text>","volCcy24h":"<text>","vol24h":"<text>","ts":"<ms>"}]}',
            ends(Kind.QUOTE),
        ),
        (
            f'{{"arg":{{"channel":"{TOP}","instId":"<symbol>"}},"data":[{{'
            '"asks":[["<ask>","<ask size>","<text>","<text>"]],"bids":[["<bid>","<bid size>","<text>","<text>"]],'
            '"ts":"<ms>","seqId":<id>}]}',
            ends(Kind.QUOTE, _NUMBER[TOP], "LINKED"),
        ),
    ],
    _FIELDS,
)
