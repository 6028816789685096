"""What `tapeline demo --venue` shows where nothing is configured, and what it says where a venue is not to be had."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from tapeline.agents.demo.market import MUCH_TRADED, LiveMarket
from tapeline.connectors.venues.live.dialects import DIALECTS, plans
from tapeline.schemas import SettingsError, UnavailableError
from tapeline.streams.settings import Settings, VenueSettings

SETTINGS = Settings(home=Path("/nowhere"))
FREE = [name for name, dialect in DIALECTS.items() if not dialect.needs_key]


def test_every_venue_has_something_to_show() -> None:
    assert MUCH_TRADED.keys() == DIALECTS.keys()


@pytest.mark.parametrize("venue", FREE)
def test_a_venue_that_is_not_configured_shows_what_is_much_traded(venue: str) -> None:
    market = LiveMarket.of(SETTINGS, venue, None)
    assert str(market) == f"{venue}, live: {MUCH_TRADED[venue].replace(',', ', ')}"
    assert plans(DIALECTS[venue], market.asked)
    assert market.command()[-4:] == [venue, "--symbols", MUCH_TRADED[venue], "--plain"]


def test_what_is_configured_is_shown_if_nothing_else_is_asked_for() -> None:
    settings = Settings.model_validate({"home": Path("/nowhere"), "venues": {"kraken": {"symbols": ["BTC/EUR"]}}})
    assert LiveMarket.of(settings, "kraken", None).asked.symbols == ("BTC/EUR",)
    assert LiveMarket.of(settings, "kraken", "ETH/EUR").asked.symbols == ("ETH/EUR",)


def test_a_venue_with_a_key_says_what_it_needs() -> None:
    with pytest.raises(SettingsError, match="alpaca needs a key"):
        LiveMarket.of(SETTINGS, "alpaca", None)


def market_at(port: int) -> LiveMarket:
    asked = VenueSettings.model_construct(**dict(LiveMarket.of(SETTINGS, "binance", None).asked)).model_copy(
        update={"url": f"ws://127.0.0.1:{port}"}
    )
    return LiveMarket("binance", asked)


def test_where_nobody_answers_it_says_so() -> None:
    with pytest.raises(UnavailableError, match=r"binance cannot be reached from here .*Is there internet"):
        asyncio.run(market_at(1).check())


def test_a_venue_that_may_not_serve_us_is_quoted() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=451)

    async def ask() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", refuse)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            await market_at(runner.addresses[0][1]).check()
        finally:
            await runner.cleanup()

    with pytest.raises(UnavailableError, match="status 451, it does not serve you from where you are"):
        asyncio.run(ask())
