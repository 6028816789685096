"""How Bybit writes the messages that `scan` reads; `bybit` says what they mean and parses all others.

From the documents of 2026-08 and from recordings; spot writes fields in another order than the others.
"""

from tapeline.connectors.venues.bybit_tickers import FIELDS as TICKER_FIELDS
from tapeline.connectors.venues.columns import MS_MAX
from tapeline.connectors.venues.shapes import (
    BOOLEAN,
    SYMBOL,
    TEXT,
    Field,
    Scanner,
    Stream,
    bits,
    decimal,
    ends,
    integer,
    items,
    levels,
    members,
    said,
    says,
    sets,
)
from tapeline.schemas import Flag, Kind

BOOKS = tuple(f"orderbook.{depth}" for depth in (50, 200, 500, 1000))
TOP = "orderbook.1"
STREAMS = tuple(Stream(topic, Kind.BOOK) for topic in BOOKS)

_ITEM: dict[str, Field] = {
    "symbol": SYMBOL,
    "text": TEXT,
    "bool": BOOLEAN,
    "ms": integer("TIME", most=MS_MAX, unit=1_000_000),
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE", positive=True),
    "side": [[b"Buy", sets(bits(side=1))], [b"Sell", sets(bits(side=-1))]],
    "id": integer("SEQUENCE"),
}
_TRADES = (
    '{"T":<ms>,"s":"<symbol>","S":"<side>","v":"<size>","p":"<price>","L":"<text>","i":"<text>","BT":<bool>,'
    '"RPI":<bool>,"seq":<id>}',
    '{"i":"<text>","T":<ms>,"p":"<price>","v":"<size>","S":"<side>","seq":<id>,"s":"<symbol>","BT":<bool>,'
    '"RPI":<bool>}',
)
_QUOTED, _MARKED, _FUNDED = range(3)
_SAID: dict[str, Field] = {
    **{
        name: said(number, _QUOTED if number < 4 else _MARKED, digits=15, decimals=30)
        for number, name in enumerate(list(TICKER_FIELDS)[:6])
    },
    "fundingRate": said(6, _FUNDED, digits=15, decimals=30, signed=True),
    "nextFundingTime": said(7, _FUNDED, digits=13, decimals=0),
}
"""The fields of a ticker, numbered as in `bybit_tickers`."""
_FIELDS: dict[str, Field] = {
    "symbol": SYMBOL,
    "ticker": members({"symbol": SYMBOL, **_SAID}),
    "text": TEXT,
    "int": integer("NOWHERE"),
    "ms": integer("TIME", most=MS_MAX, unit=1_000_000),
    "id": integer("SEQUENCE"),
    "bids": levels(1),
    "asks": levels(-1),
    "bid": decimal("PRICE"),
    "bid size": decimal("SIZE"),
    "ask": decimal("PRICE2"),
    "ask size": decimal("SIZE2"),
    "trades": [way for template in _TRADES for way in items(template, _ITEM, rows="EACH")],
}
_HEADS = ('{"topic":"%s.<text>","type":"%s","ts":<int>,', '{"topic":"%s.<text>","ts":<int>,"type":"%s",')

_TICKERS = (
    '{"topic":"tickers.<text>","type":"%s","data":<ticker>,"cs":<id>,"ts":<ms>}',
    '{"topic":"tickers.<text>","ts":<ms>,"type":"%s","cs":<id>,"data":<ticker>}',
)

SCANNER_BUT_TICKERS = Scanner(
    [
        *(
            (
                head % (topic, what) + '"data":{"s":"<symbol>","b":<bids>,"a":<asks>,"u":<id>,"seq":<int>},"cts":<ms>}',
                ends(Kind.BOOK, number, "AFRESH" if flags else "CONSECUTIVE", flags=flags),
            )
            for head in _HEADS
            for number, topic in enumerate(BOOKS)
            for what, flags in (("snapshot", Flag.SNAPSHOT), ("delta", Flag(0)))
        ),
        *(
            (
                head
                % (TOP, "snapshot")
                + '"data":{"s":"<symbol>","b":[["<bid>","<bid size>"]],"a":[["<ask>","<ask size>"]],"u":<id>,'
                '"seq":<int>},"cts":<ms>}',
                ends(Kind.QUOTE),
            )
            for head in _HEADS
        ),
        *((head % ("publicTrade", "snapshot") + '"data":<trades>}', ends(Kind.TRADE, rows="EACH")) for head in _HEADS),
    ],
    _FIELDS,
)
"""For frames in which a ticker is left to the library parser: it must read the others, too."""
SCANNER = Scanner(
    [
        *SCANNER_BUT_TICKERS.shapes,
        *((text % what, says(anew=what == "snapshot")) for text in _TICKERS for what in ("snapshot", "delta")),
    ],
    _FIELDS,
)
