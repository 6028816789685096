"""A venue's REST, asked at the pace that it allows, until it answers. `client` and `instruments` use it.

A refusal for asking too much (429, and 418, which bans) holds up every question to the venue, for as long as it says.
"""

import asyncio
import logging
import random
from collections.abc import Mapping

import aiohttp

from tapeline.schemas import TapelineError

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=20)
PAUSE_S = {429: 30.0, 418: 120.0}
"""Where the venue does not say how long to wait."""
PAUSE_MAX_S = 30.0


class RefusedError(TapelineError):
    """The venue will not answer this, however often it is asked; the message has its words."""


class Pace:
    """Lets so many pass a second, one after the other, in the order in which they came."""

    def __init__(self, per_second: float) -> None:
        self._pause_s = 1 / per_second
        self._lock = asyncio.Lock()
        self._next_s = 0.0

    async def wait(self) -> None:
        """Wait for our turn."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            while (wait_s := self._next_s - loop.time()) > 0:  # noqa: ASYNC110 - it may grow meanwhile
                await asyncio.sleep(wait_s)
            self._next_s = loop.time() + self._pause_s

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long."""
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + seconds)


class Rest:
    """One venue's REST. per_second: questions."""

    def __init__(
        self, http: aiohttp.ClientSession, per_second: float, headers: Mapping[str, str] | None = None
    ) -> None:
        self._http = http
        self._pace = Pace(per_second)
        self._headers = headers or {}

    async def get(self, url: str) -> bytes:
        """Return the body of an answer with status 200; raises RefusedError for 4xx that waiting does not heal."""
        tries = 0
        while True:
            await self._pace.wait()
            trouble = ""
            try:
                async with self._http.get(url, headers=self._headers, timeout=TIMEOUT) as answer:
                    if answer.status == 200:
                        return await answer.read()
                    trouble = f"status {answer.status}"
                    if answer.status in PAUSE_S:
                        self._pace.hold(retry_after_s(answer.headers) or PAUSE_S[answer.status])
                    elif 400 <= answer.status < 500 and answer.status != 408:
                        raise RefusedError(f"{url}: {trouble}: {(await answer.text())[:200]}")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = f"{type(error).__name__}: {error}"
            tries += 1
            log.warning("%s (try %d): %s", url, tries, trouble)
            await asyncio.sleep(min(0.25 * 2**tries, PAUSE_MAX_S) * random.uniform(0.5, 1))  # noqa: S311 - jitter


def retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds of a Retry-After header, None without one."""
    text = (headers or {}).get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
