"""How Coinbase writes the messages that `scan` reads; `coinbase` and `coinbase_exchange` say what they mean.

Those of Advanced Trade are from recordings of 2026-08, those of Exchange from the documents of that time.
"""

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
    iso,
    items,
    levels,
    sets,
)
from tapeline.schemas import Flag, Kind

TRADE = "market_trades"
STREAMS = (Stream(TRADE, Kind.TRADE, counted=False),)
MATCH, TICKER = "match", "ticker"
EXCHANGE_STREAMS = (Stream(MATCH, Kind.TRADE), Stream(TICKER, Kind.QUOTE, counted=False))

_LEVEL: dict[str, Field] = {
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE"),
    "side": [[b"bid", sets(bits(side=1))], [b"offer", sets(bits(side=-1))]],
    "exchange side": [[b"buy", sets(bits(side=1))], [b"sell", sets(bits(side=-1))]],
    "latest": iso("LATEST"),
}
_FIELDS: dict[str, Field] = {
    "symbol": SYMBOL,
    "text": TEXT,
    "time": iso("TIME"),
    "id": integer("SEQUENCE"),
    "int": integer("NOWHERE"),
    "updates": items(
        '{"side":"<side>","event_time":"<latest>","price_level":"<price>","new_quantity":"<size>"}', _LEVEL
    ),
    "changes": items('["<exchange side>","<price>","<size>"]', _LEVEL),
    "bids": levels(1),
    "asks": levels(-1),
    "bid": decimal("PRICE"),
    "bid size": decimal("SIZE"),
    "ask": decimal("PRICE2"),
    "ask size": decimal("SIZE2"),
    "price": decimal("PRICE", positive=True),
    "traded": decimal("SIZE", positive=True),
    "maker": [[b"buy", sets(bits(side=-1))], [b"sell", sets(bits(side=1))]],
}
SCANNER = Scanner(
    [
        *(
            (
                '{"channel":"l2_data","timestamp":"<text>","sequence_num":<id>,"events":[{'
                f'"type":"{what}","product_id":"<symbol>","updates":<updates>}}]}}',
                ends(Kind.BOOK, flags=flags),
            )
            for what, flags in (("snapshot", Flag.SNAPSHOT), ("update", Flag(0)))
        ),
        *(
            (
                f'{{"channel":"ticker","timestamp":"<time>","sequence_num":<id>,"events":[{{"type":"{what}",'
                '"tickers":[{"type":"ticker","product_id":"<symbol>","price":"<text>","volume_24_h":"<text>",'
                '"low_24_h":"<text>","high_24_h":"<text>","low_52_w":"<text>","high_52_w":"<text>",'
                '"price_percent_chg_24_h":"<text>","best_bid":"<bid>","best_ask":"<ask>",'
                '"best_bid_quantity":"<bid size>","best_ask_quantity":"<ask size>"}]}]}',
                ends(Kind.QUOTE),
            )
            for what in ("snapshot", "update")
        ),
    ],
    _FIELDS,
)
EXCHANGE_SCANNER = Scanner(
    [
        ('{"type":"l2update","product_id":"<symbol>","changes":<changes>,"time":"<time>"}', ends(Kind.BOOK)),
        (
            '{"type":"snapshot","product_id":"<symbol>","asks":<asks>,"bids":<bids>,"time":"<time>"}',
            ends(Kind.BOOK, flags=Flag.SNAPSHOT, turned=True),
        ),
        *(
            (
                f'{{"type":"{what}","trade_id":<id>,"maker_order_id":"<text>","taker_order_id":"<text>",'
                '"side":"<maker>","size":"<traded>","price":"<price>","product_id":"<symbol>","sequence":<int>,'
                '"time":"<time>"}',
                ends(Kind.TRADE, 0, "CONSECUTIVE", flags=flags),
            )
            for what, flags in ((MATCH, Flag(0)), ("last_match", Flag.SNAPSHOT))
        ),
        (
            '{"type":"ticker","sequence":<id>,"product_id":"<symbol>","price":"<text>","open_24h":"<text>",'
            '"volume_24h":"<text>","low_24h":"<text>","high_24h":"<text>","volume_30d":"<text>","best_bid":"<bid>",'
            '"best_bid_size":"<bid size>","best_ask":"<ask>","best_ask_size":"<ask size>","side":"<text>",'
            '"time":"<time>","trade_id":<int>,"last_size":"<text>"}',
            ends(Kind.QUOTE, 1, "LINKED"),
        ),
    ],
    _FIELDS,
)
