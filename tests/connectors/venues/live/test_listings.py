"""What each venue's REST says of instruments: a listing in its own form, shortened, and what becomes of it."""

import json
from typing import Any

import pytest

from tapeline.connectors.venues.live.contract import InstrumentInfo
from tapeline.connectors.venues.live.dialects import DIALECTS
from tapeline.connectors.venues.live.instruments import read_listing

BINANCE_FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
    {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
]
BYBIT_LINEAR = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001"},
}
LISTINGS: dict[str, tuple[Any, InstrumentInfo]] = {
    "binance": (
        {
            "timezone": "UTC",
            "symbols": [
                {
                    "symbol": "BTCUSDT",
                    "status": "TRADING",
                    "baseAsset": "BTC",
                    "quoteAsset": "USDT",
                    "filters": BINANCE_FILTERS,
                }
            ],
        },
        InstrumentInfo("BTCUSDT", "BTC", "USDT", "USDT", None, "0.01", "0.00001", "trading"),
    ),
    "binance-usdm": (
        {
            "symbols": [
                {
                    "symbol": "BTCUSDT",
                    "pair": "BTCUSDT",
                    "contractType": "PERPETUAL",
                    "status": "TRADING",
                    "baseAsset": "BTC",
                    "quoteAsset": "USDT",
                    "marginAsset": "USDT",
                    "filters": BINANCE_FILTERS,
                }
            ]
        },
        InstrumentInfo("BTCUSDT", "BTC", "USDT", "USDT", None, "0.01", "0.00001", "trading"),
    ),
    "binance-coinm": (
        {
            "symbols": [
                {
                    "symbol": "BTCUSD_PERP",
                    "pair": "BTCUSD",
                    "contractStatus": "TRADING",
                    "contractSize": 100,
                    "baseAsset": "BTC",
                    "quoteAsset": "USD",
                    "marginAsset": "BTC",
                    "filters": BINANCE_FILTERS,
                }
            ]
        },
        InstrumentInfo("BTCUSD_PERP", "BTC", "USD", "BTC", "100", "0.01", "0.00001", "trading"),
    ),
    "coinbase": (
        {
            "products": [
                {
                    "product_id": "BTC-USD",
                    "base_increment": "0.00000001",
                    "quote_increment": "0.01",
                    "price_increment": "0.01",
                    "base_currency_id": "BTC",
                    "quote_currency_id": "USD",
                    "status": "online",
                }
            ],
            "num_products": 1,
        },
        InstrumentInfo("BTC-USD", "BTC", "USD", "USD", None, "0.01", "0.00000001", "online"),
    ),
    "coinbase-exchange": (
        [
            {
                "id": "BTC-USD",
                "base_currency": "BTC",
                "quote_currency": "USD",
                "quote_increment": "0.01",
                "base_increment": "0.00000001",
                "status": "online",
            }
        ],
        InstrumentInfo("BTC-USD", "BTC", "USD", "USD", None, "0.01", "0.00000001", "online"),
    ),
    "kraken": (
        {
            "error": [],
            "result": {
                "XXBTZUSD": {
                    "altname": "XBTUSD",
                    "wsname": "XBT/USD",
                    "base": "XXBT",
                    "quote": "ZUSD",
                    "pair_decimals": 1,
                    "lot_decimals": 8,
                    "tick_size": "0.1",
                    "status": "online",
                },
                "NOTSTREAMED": {"altname": "X", "base": "X", "quote": "Y"},
            },
        },
        InstrumentInfo("BTC/USD", "BTC", "USD", "USD", None, "0.1", "0.00000001", "online"),
    ),
    "bybit": (
        {
            "retCode": 0,
            "result": {
                "category": "spot",
                "list": [
                    {
                        "symbol": "BTCUSDT",
                        "baseCoin": "BTC",
                        "quoteCoin": "USDT",
                        "status": "Trading",
                        "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.0000001"},
                        "priceFilter": {"tickSize": "0.01"},
                    }
                ],
            },
        },
        InstrumentInfo("BTCUSDT", "BTC", "USDT", "USDT", None, "0.01", "0.000001", "trading"),
    ),
    "bybit-linear": (
        {"retCode": 0, "result": {"category": "linear", "list": [BYBIT_LINEAR], "nextPageCursor": ""}},
        InstrumentInfo("BTCUSDT", "BTC", "USDT", "USDT", None, "0.10", "0.001", "trading"),
    ),
    "bybit-inverse": (
        {
            "retCode": 0,
            "result": {"list": [BYBIT_LINEAR | {"symbol": "BTCUSD", "quoteCoin": "USD", "settleCoin": "BTC"}]},
        },
        InstrumentInfo("BTCUSD", "BTC", "USD", "BTC", None, "0.10", "0.001", "trading"),
    ),
    "okx": (
        {
            "code": "0",
            "data": [
                {
                    "instType": "SWAP",
                    "instId": "BTC-USDT-SWAP",
                    "uly": "BTC-USDT",
                    "baseCcy": "",
                    "quoteCcy": "",
                    "settleCcy": "USDT",
                    "ctVal": "0.01",
                    "ctValCcy": "BTC",
                    "tickSz": "0.1",
                    "lotSz": "0.01",
                    "state": "live",
                }
            ],
        },
        InstrumentInfo("BTC-USDT-SWAP", "BTC", "USDT", "USDT", "0.01", "0.1", "0.01", "live"),
    ),
    "bitstamp": (
        [
            {
                "name": "BTC/USD",
                "url_symbol": "btcusd",
                "base_decimals": 8,
                "counter_decimals": 0,
                "trading": "Enabled",
            }
        ],
        InstrumentInfo("btcusd", "BTC", "USD", "USD", None, "1", "0.00000001", "enabled"),
    ),
    "alpaca": (
        [{"symbol": "SPY", "class": "us_equity", "exchange": "ARCA", "status": "active", "fractionable": True}],
        InstrumentInfo("SPY", "SPY", "USD", "USD", None, "0.01", "1", "active"),
    ),
}


@pytest.mark.parametrize("venue", DIALECTS)
def test_a_listing_says_currencies_tick_lot_and_status(venue: str) -> None:
    listing, expected = LISTINGS[venue]
    assert read_listing(DIALECTS[venue], json.dumps(listing).encode()) == [expected]


def test_an_instrument_of_okx_spot() -> None:
    one = {"instType": "SPOT", "instId": "BTC-USDT", "uly": "", "baseCcy": "BTC", "quoteCcy": "USDT", "settleCcy": ""}
    one |= {"ctVal": "", "tickSz": "0.1", "lotSz": "0.00000001", "state": "live"}
    expected = InstrumentInfo("BTC-USDT", "BTC", "USDT", "USDT", None, "0.1", "0.00000001", "live")
    assert read_listing(DIALECTS["okx"], json.dumps({"data": [one]}).encode()) == [expected]


@pytest.mark.parametrize("venue", DIALECTS)
@pytest.mark.parametrize(
    "body", [b"<html>", b'{"a":1}', b'{"symbols":[1],"products":[1],"result":{"a":1},"data":[1]}', b"[1]"]
)
def test_what_is_no_listing_is_refused(venue: str, body: bytes) -> None:
    with pytest.raises(ValueError, match="no list of instruments"):
        read_listing(DIALECTS[venue], body)
