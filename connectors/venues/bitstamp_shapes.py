"""How Bitstamp writes the messages that `scan` reads; `bitstamp` says what they mean and parses all others.

From recordings of 2022-01 and the documents of 2024-06.
"""

from tapeline.connectors.venues.columns import INTEGER_MAX
from tapeline.connectors.venues.shapes import (
    SYMBOL,
    TEXT,
    Field,
    Scanner,
    Stream,
    bits,
    decimal,
    ends,
    integer,
    levels,
    sets,
    skipped_number,
)
from tapeline.schemas import Flag, Kind

TRADE, CHANGES, PICTURE = "live_trades", "diff_order_book", "order_book"
STREAMS = (
    Stream(TRADE, Kind.TRADE, counted=False),
    Stream(CHANGES, Kind.BOOK, counted=False),
    Stream(PICTURE, Kind.BOOK, counted=False),
)
_FIELDS: dict[str, Field] = {
    "symbol": SYMBOL,
    "text": TEXT,
    "int": integer("NOWHERE"),
    "number": skipped_number(),
    "id": integer("SEQUENCE"),
    "us": integer("TIME", most=INTEGER_MAX // 1000, unit=1000, zeros=True),
    "stamp": integer("STAMP", most=INTEGER_MAX // 1000, unit=1000, zeros=True),
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE", positive=True),
    "side": [[b"0", sets(bits(side=1))], [b"1", sets(bits(side=-1))]],
    "bids": levels(1),
    "asks": levels(-1),
}
SCANNER = Scanner(
    [
        (
            '{"data":{"id":<id>,"timestamp":"<text>","amount":<number>,"amount_str":"<size>","price":<number>,'
            '"price_str":"<price>","type":<side>,"microtimestamp":"<us>","buy_order_id":<int>,"sell_order_id":<int>},'
            '"channel":"live_trades_<symbol>","event":"trade"}',
            ends(Kind.TRADE, 0, "LINKED"),
        ),
        *(
            (
                '{"data":{"timestamp":"<text>","microtimestamp":"<stamp>","bids":<bids>,"asks":<asks>},'
                f'"channel":"{channel}_<symbol>","event":"data"}}',
                ends(Kind.BOOK, number, "LINKED", flags=flags),
            )
            for number, channel, flags in ((1, CHANGES, Flag(0)), (2, PICTURE, Flag.SNAPSHOT))
        ),
    ],
    _FIELDS,
)
