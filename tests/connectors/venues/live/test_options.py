"""What is asked of a live venue by options: over what the configuration says, or a clear refusal."""

from pathlib import Path

import pytest

from tapeline.connectors.venues.live.command import configured
from tapeline.schemas import SettingsError
from tapeline.streams.settings import Settings

SETTINGS = Settings(home=Path("/nowhere"))


@pytest.mark.parametrize(
    ("venue", "symbols", "streams", "words"),
    [
        ("kraken", None, None, r"no symbols of kraken: name them with --symbols, or write \[venues.kraken\]"),
        ("kraken", "", None, "--symbols: a name is missing"),
        ("kraken", "BTC/USD,,ETH/USD", None, "--symbols: a name is missing"),
        ("kraken", "BTC/USD,BTC/USD", None, "--symbols: 'BTC/USD' stands there twice"),
        ("kraken", "BTC USD", None, "--symbols: 'BTC USD' is no symbol"),
        ("kraken", "BTC/USD", "trades", "--streams: 'trades' is none of trade, quote, depth$"),
        ("bitstamp", "btcusd", "quote", "quote"),
        ("alpaca", "SPY", None, "alpaca needs a key"),
    ],
)
def test_what_cannot_be_is_refused(venue: str, symbols: str | None, streams: str | None, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        configured(SETTINGS, venue, symbols, streams)


def test_spaces_around_names_do_not_matter() -> None:
    asked = configured(SETTINGS, "kraken", "BTC/USD, ETH/USD", "trade, depth")
    assert asked.symbols == ("BTC/USD", "ETH/USD")
    assert asked.streams == ("trade", "depth")
