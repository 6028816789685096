"""What every store in PostgreSQL shares: one connection that waits, the offsets of a role, finding what is refused.

`postgres.py` keeps signals on it, `frames.py` ticks and bars.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tapeline.connectors.stores.contract import Refused, StoreError
from tapeline.connectors.stores.migrate import migrate

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_SECONDS = 10
"""A database that owes an answer for longer (a lock, a disk that hangs) is waited for, and that is said."""
PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 5.0
TRIES_LOGGED = 6
"""So many tries are logged one by one, later ones once a minute."""

# A dead host is noticed in seconds, not in the hours that TCP would wait. The DSN may say otherwise.
CONNECTION = {
    "connect_timeout": "10",
    "tcp_user_timeout": "15000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "tapeline",
}

REFUSALS = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded)
"""What is wrong with the values, and stays wrong however often we try: NUL in a text, a number out of range."""
# What may heal: no connection, a server that stops or starts, a full disk, a deadlock, a standby after a failover.
# A wrong password is among them: libpq does not tell it apart, and it may be the server's that is set right.
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)


class Database:
    """The database that `dsn` names, waited for while it is away, and the offsets of `role` in it.

    topic_id: Kafka's id of the topic that the offsets count in.
    """

    def __init__(self, dsn: str, role: str, *, topic_id: str) -> None:
        self._dsn = make_conninfo("", **(CONNECTION | conninfo_to_dict(dsn) | {"client_encoding": "utf8"}))
        self.role = role
        self.topic_id = topic_id
        self.away = False
        """Whether the database is waited for just now."""
        self._connection: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Connect and bring the tables up to date; waits for a database that is away, raises StoreError."""
        try:
            await self.steadily(migrate)
            await self.steadily(self.prepare)
        except BaseException:
            await self.close()
            raise

    async def prepare(self, connection: AsyncConnection) -> None:
        """Do what else is to be done before the first write, once the tables are there."""

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def next_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset not yet kept, for each partition of the topic that was ever written."""

        async def read(connection: AsyncConnection) -> dict[int, int]:
            query = "SELECT partition, next_offset, topic_id FROM input_offsets WHERE role = %s AND topic = %s"
            rows = await (await connection.execute(query, [self.role, topic])).fetchall()
            for _, _, topic_id in rows:
                self.check_topic(topic, topic_id)
            return {partition: next_offset for partition, next_offset, _ in rows}

        return await self.steadily(read)

    def check_topic(self, topic: str, topic_id: str) -> None:
        """Raise StoreError if offsets count in another topic of the same name."""
        if topic_id != self.topic_id:
            raise StoreError(
                f"the database holds what role {self.role} read from another topic {topic} than the one that is there "
                "now: it was made anew, and its ids and offsets begin again. Use an empty database, or the Kafka that "
                "belongs to it"
            )

    def _overdue(self) -> None:
        if not self.away:  # else the tries say it, ever more rarely
            self.away = True
            log.warning(
                "the database does not answer, for %d s: does somebody hold a lock on its tables?", ANSWER_SECONDS
            )

    async def steadily(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do the work on a connection that lives, from its beginning again whenever the database was away."""
        async with self._lock:
            tries, pause_s, next_line = 0, PAUSE_FIRST_S, 0.0
            started = time.monotonic()
            while True:
                overdue = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._overdue)
                try:
                    if self._connection is None:
                        self._connection = await AsyncConnection.connect(
                            self._dsn, autocommit=True, prepare_threshold=None
                        )
                    result = await work(self._connection)
                except _AWAY as error:
                    await self.close()
                    self.away = True
                    tries += 1
                    if tries <= TRIES_LOGGED or time.monotonic() >= next_line:
                        log.warning("the database is away (try %d): %s", tries, one_line(error))
                        next_line = time.monotonic() + 60
                except psycopg.Error as error:
                    await self.close()
                    raise StoreError(f"the database does not do what it is asked: {one_line(error)}") from error
                else:
                    if self.away:
                        log.warning("the database is back after %.1f s", time.monotonic() - started)
                    self.away = False
                    return result
                finally:
                    overdue.cancel()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)


async def insert_each(
    connection: AsyncConnection, items: Sequence[T], insert: Callable[[Sequence[T]], Awaitable[None]]
) -> list[Refused]:
    """Insert all; when the database refuses, halve until it is clear which, and insert the others.

    Within a transaction. insert: changes the database, and nothing else unless it succeeded.
    """
    try:
        async with connection.transaction():
            await insert(items)
        return []
    except REFUSALS as error:
        if len(items) == 1:
            return [Refused(0, one_line(error))]
    middle = len(items) // 2
    first = await insert_each(connection, items[:middle], insert)
    second = await insert_each(connection, items[middle:], insert)
    return first + [Refused(middle + one.index, one.reason) for one in second]


def one_line(error: psycopg.Error) -> str:
    """Return the error in one line."""
    text = ": ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
    return " ".join((text or str(error)).split())
