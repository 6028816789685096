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


class Rest:
    """One venue's REST. per_second: questions."""

    def __init__(
        self, http: aiohttp.ClientSession, per_second: float, headers: Mapping[str, str] | None = None
    ) -> None:
        self._http = http
        self._pause_s = 1 / per_second
        self._headers = headers or {}
        self._lock = asyncio.Lock()
        self._next_s = 0.0

    async def get(self, url: str) -> bytes:
        """Return the body of an answer with status 200; raises RefusedError for 4xx that waiting does not heal."""
        tries = 0
        while True:
            async with self._lock:  # in the order in which they were asked
                loop = asyncio.get_running_loop()
                while (wait_s := self._next_s - loop.time()) > 0:  # noqa: ASYNC110 - it may grow meanwhile
                    await asyncio.sleep(wait_s)
                self._next_s = loop.time() + self._pause_s
            trouble = ""
            try:
                async with self._http.get(url, headers=self._headers, timeout=TIMEOUT) as answer:
                    if answer.status == 200:
                        return await answer.read()
                    trouble = f"status {answer.status}"
                    if answer.status in PAUSE_S:
                        self._hold(answer)
                    elif 400 <= answer.status < 500 and answer.status != 408:
                        raise RefusedError(f"{url}: {trouble}: {(await answer.text())[:200]}")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = f"{type(error).__name__}: {error}"
            tries += 1
            log.warning("%s (try %d): %s", url, tries, trouble)
            await asyncio.sleep(min(0.25 * 2**tries, PAUSE_MAX_S) * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def _hold(self, answer: aiohttp.ClientResponse) -> None:
        """Ask nothing for as long as the venue says."""
        wait_s = retry_after_s(answer.headers) or PAUSE_S[answer.status]
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + wait_s)


def retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds of a Retry-After header, None without one."""
    text = (headers or {}).get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
