"""The two markets of `tapeline demo`: the simulated one, and a live venue. `command` runs one of them."""

import sys
from dataclasses import dataclass
from typing import Protocol

from tapeline.connectors.venues.live.command import configured
from tapeline.connectors.venues.live.dialects import DIALECTS
from tapeline.connectors.venues.sim_market import MarketOptions
from tapeline.streams.settings import Settings, VenueSettings

INGEST = (sys.executable, "-m", "tapeline.streams.cli", "ingest")
MUCH_TRADED = {
    "binance": "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,DOGEUSDT,BNBUSDT",
    "binance-usdm": "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,DOGEUSDT,BNBUSDT",
    "binance-coinm": "BTCUSD_PERP,ETHUSD_PERP,SOLUSD_PERP,XRPUSD_PERP",
    "coinbase": "BTC-USD,ETH-USD,SOL-USD,XRP-USD,DOGE-USD",
    "coinbase-exchange": "BTC-USD,ETH-USD,SOL-USD,XRP-USD,DOGE-USD",
    "kraken": "BTC/USD,ETH/USD,SOL/USD,XRP/USD,DOGE/USD",
    "bybit": "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,DOGEUSDT",
    "bybit-linear": "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,DOGEUSDT",
    "bybit-inverse": "BTCUSD,ETHUSD,SOLUSD,XRPUSD",
    "okx": "BTC-USDT,ETH-USDT,SOL-USDT,XRP-USDT,DOGE-USDT",
    "bitstamp": "btcusd,ethusd,solusd,xrpusd",
    "alpaca": "SPY,QQQ,AAPL,NVDA,TSLA,MSFT",
}
"""What is shown of a venue that is not in the configuration."""


class Market(Protocol):
    """Something to watch; str() says what it is."""

    @property
    def instruments(self) -> str:
        """SQL pattern of the names of its instruments."""

    @property
    def env(self) -> dict[str, str]:
        """What its process is told beside the configuration, where that leaves frames as they are."""

    def command(self) -> list[str]:
        """Return the command that feeds it until it is stopped."""

    async def check(self) -> None:
        """Raise what is wrong before anything starts."""


@dataclass(frozen=True, slots=True)
class SimulatedMarket:
    """Options of the simulated market; raises what `MarketOptions` does."""

    seed: int
    rate: float
    count: int

    def __post_init__(self) -> None:
        """Say now what is wrong, not in a child's log."""
        MarketOptions(seed=self.seed, rate=self.rate, instruments=self.count)

    @property
    def instruments(self) -> str:
        """SQL pattern of the names of its instruments."""
        return "sim:%"

    @property
    def env(self) -> dict[str, str]:
        """Fewer, larger frames: two cores run all of this and the screen beside it."""
        return {"TAPELINE_FRAMES__WAIT_MS": "20"}

    def __str__(self) -> str:
        return f"simulated market, {self.count} instruments"

    def command(self) -> list[str]:
        """Return the command that feeds it, at the pace of real time."""
        options = {"seed": self.seed, "rate": self.rate, "instruments": self.count, "start": "now", "speed": "1x"}
        return [*INGEST, "sim", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]

    async def check(self) -> None:
        """Nothing can be wrong any more."""


@dataclass(frozen=True, slots=True)
class LiveMarket:
    """A live venue; asked: what is read of it."""

    venue: str
    asked: VenueSettings

    @classmethod
    def of(cls, settings: Settings, venue: str, symbols: str | None) -> "LiveMarket":
        """Return what the configuration says, or else much traded instruments. Raises SettingsError."""
        if symbols is None and venue not in settings.venues:
            symbols = MUCH_TRADED[venue]
        return cls(venue, configured(settings, venue, symbols, None))

    @property
    def instruments(self) -> str:
        """SQL pattern of the names of its instruments."""
        return f"{self.venue}:%"

    @property
    def env(self) -> dict[str, str]:
        """Nothing."""
        return {}

    def __str__(self) -> str:
        return f"{self.venue}, live: {', '.join(self.asked.symbols)}"

    def command(self) -> list[str]:
        """Return the command that reads it."""
        return [*INGEST, self.venue, "--symbols", ",".join(self.asked.symbols), "--plain"]

    async def check(self) -> None:
        """Raise UnavailableError if the venue cannot be reached from here."""
        # Here, so that the simulated market does not wait for aiohttp.
        from tapeline.connectors.venues.live.reach import reach

        await reach(DIALECTS[self.venue], self.asked)
