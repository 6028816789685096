"""How Kraken writes the messages that `scan` reads, in both protocols; `kraken` says what they mean, parses all others.

From the documents of 2026-07 and, for v1, from recordings.
"""

from tapeline.connectors.venues.shapes import (
    IGNORED,
    SYMBOL,
    TEXT,
    Field,
    Scanner,
    Stream,
    bits,
    decimal,
    ends,
    integer,
    iso,
    items,
    number,
    seconds,
    sets,
    skipped_number,
)
from tapeline.schemas import Flag, Kind

DEPTH_MAX = 100_000
STREAMS = (Stream("trade", Kind.TRADE, counted=False),)

_V1: dict[str, Field] = {
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE"),
    "latest": seconds("LATEST"),
    "again": [[], [b',"r"']],
    "traded": decimal("SIZE", positive=True),
    "time": seconds("TIME"),
    "side": [[b"b", sets(bits(side=1))], [b"s", sets(bits(side=-1))]],
    "text": TEXT,
}
_V2: dict[str, Field] = {
    "symbol": SYMBOL,
    "price": number("PRICE", positive=True),
    "size": number("SIZE"),
    "traded": number("SIZE", positive=True),
    "side": [[b"buy", sets(bits(side=1))], [b"sell", sets(bits(side=-1))]],
    "text": TEXT,
    "id": integer("SEQUENCE"),
    "time": iso("TIME"),
}
_LEVEL, _LEVEL_V2 = '["<price>","<size>","<latest>"<again>]', '{"price":<price>,"qty":<size>}'
_TRADE_V2 = (
    '{"symbol":"<symbol>","side":"<side>","price":<price>,"qty":<traded>,"ord_type":"<text>","trade_id":<id>,'
    '"timestamp":"<time>"}'
)
_FIELDS: dict[str, Field] = {
    "int": integer("NOWHERE"),
    "number": number("NOWHERE"),
    "signed": skipped_number(),
    "text": TEXT,
    "symbol": SYMBOL,
    "asks": items(_LEVEL, _V1, side=-1),
    "bids": items(_LEVEL, _V1, side=1),
    "depth": integer("KEPT", most=DEPTH_MAX, zeros=True),
    "trades": items('["<price>","<traded>","<time>","<side>","<text>","<text>"]', _V1, rows="EACH"),
    "bid": decimal("PRICE"),
    "bid size": decimal("SIZE"),
    "ask": decimal("PRICE2"),
    "ask size": decimal("SIZE2"),
    "seconds": seconds("TIME"),
    "iso": iso("TIME"),
    "asks v2": items(_LEVEL_V2, _V2, side=-1),
    "bids v2": items(_LEVEL_V2, _V2, side=1),
    "trades v2": items(_TRADE_V2, _V2, rows="EACH"),
    "bid v2": number("PRICE"),
    "bid size v2": number("SIZE"),
    "ask v2": number("PRICE2"),
    "ask size v2": number("SIZE2"),
}
_BOOK, _PICTURE = ends(Kind.BOOK, turned=True), ends(Kind.BOOK, flags=Flag.SNAPSHOT, turned=True)
_TICKER_V2 = (
    '{"channel":"ticker","type":"<what>","data":[{"symbol":"<symbol>","bid":<bid v2>,"bid_qty":<bid size v2>,'
    '"ask":<ask v2>,"ask_qty":<ask size v2>,"last":<number>,"volume":<number>,"vwap":<number>,"low":<number>,'
    '"high":<number>,"change":<signed>,"change_pct":<signed>'
)
_PAIR = '["<text>","<text>"]'

SCANNER = Scanner(
    [
        ('[<int>,{"a":<asks>,"c":"<text>"},"book-<depth>","<symbol>"]', _BOOK),
        ('[<int>,{"b":<bids>,"c":"<text>"},"book-<depth>","<symbol>"]', _BOOK),
        ('[<int>,{"a":<asks>},{"b":<bids>,"c":"<text>"},"book-<depth>","<symbol>"]', _BOOK),
        ('[<int>,{"as":<asks>,"bs":<bids>},"book-<depth>","<symbol>"]', _PICTURE),
        ('[<int>,<trades>,"trade","<symbol>"]', ends(Kind.TRADE, rows="EACH")),
        (
            '[<int>,{"a":["<ask>",<int>,"<ask size>"],"b":["<bid>",<int>,"<bid size>"],'
            f'"c":{_PAIR},"v":{_PAIR},"p":{_PAIR},"t":[<int>,<int>],"l":{_PAIR},"h":{_PAIR},"o":{_PAIR}}},'
            '"ticker","<symbol>"]',
            ends(Kind.QUOTE),
        ),
        ('[<int>,["<bid>","<ask>","<seconds>","<bid size>","<ask size>"],"spread","<symbol>"]', ends(Kind.QUOTE)),
        ('{"event":"heartbeat"}', IGNORED),
        *(
            (
                f'{{"channel":"book","type":"{what}","data":[{{"symbol":"<symbol>","bids":<bids v2>,"asks":<asks v2>,'
                '"checksum":<int>,"timestamp":"<iso>"}]}',
                ends(Kind.BOOK, flags=flags),
            )
            for what, flags in (("snapshot", Flag.SNAPSHOT), ("update", Flag(0)))
        ),
        *(
            (
                f'{{"channel":"trade","type":"{what}","data":<trades v2>}}',
                ends(Kind.TRADE, 0, "LINKED", rows="EACH", flags=flags),
            )
            for what, flags in (("snapshot", Flag.SNAPSHOT), ("update", Flag(0)))
        ),
        *(
            (_TICKER_V2.replace("<what>", what) + tail, ends(Kind.QUOTE))
            for what in ("snapshot", "update")
            for tail in ("}]}", ',"timestamp":"<iso>"}]}')
        ),
        ('{"channel":"heartbeat"}', IGNORED),
    ],
    _FIELDS,
)
