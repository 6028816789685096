"""The test venue in a thread of its own, its market going on by itself: for tests whose clients are other processes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TypeVar

from tests.venue.market import Market, invented
from tests.venue.server import Faults, Venue

T = TypeVar("T")
STEP_S = 0.01


class Stage:
    """A venue that runs. rate: events a second."""

    def __init__(self, venue: Venue, loop: asyncio.AbstractEventLoop, rate: float) -> None:
        self.venue = venue
        self.rate = rate
        self._loop = loop

    def ask(self, question: Callable[[], T]) -> T:
        """Run a function in the venue's thread."""

        async def run() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)


@contextmanager
def venue_thread(name: str, symbols: list[str], *, rate: float, seed: int = 1, levels: int = 40) -> Iterator[Stage]:
    """Run a venue while the context lasts."""
    loop = asyncio.new_event_loop()
    rng = Random(seed)
    market = Market(symbols)
    venue = Venue(name, market, invented(market, rng, levels), Faults(rng))
    ready, ended = threading.Event(), threading.Event()
    stage = Stage(venue, loop, rate)

    async def main() -> None:
        async with venue:
            venue.happen(len(symbols))
            ready.set()
            due = loop.time()
            while not ended.is_set():
                count = int((loop.time() - due) * stage.rate)
                if count > 0:
                    venue.happen(min(count, 1000))
                    due += count / stage.rate
                await asyncio.sleep(STEP_S)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield stage
    finally:
        ended.set()
        thread.join(10)
        loop.close()
