"""Give a client of librdkafka its brokers back when it has forgotten all of them.

From 2.10 on librdkafka drops the brokers that a metadata answer does not name, those of `bootstrap.servers` included. A
broker that has just started may name none; librdkafka then means to start from `bootstrap.servers` again, but cancels
that if its threads meet at the wrong moment (its issue 5301), and has no broker to ask any more, for ever. What helps
is `rd_kafka_brokers_add` of its public C interface, which confluent-kafka does not pass on.
"""

import ctypes
import functools
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, Producer

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""So long a client may be without an answer before it gets its brokers again, and again after as long."""
AFFECTED = 0x020A0000
"""The first version of librdkafka that drops brokers (2.10.0)."""


class Lifeline:
    """Gives one client its brokers again, when whoever uses it is without an answer."""

    def __init__(self, client: Producer | Consumer, properties: Mapping[str, str | int]) -> None:
        self.servers = str(properties["bootstrap.servers"])
        self._client = client
        self._given_seconds = -math.inf  # monotonic

    def give(self, now: float) -> None:
        """Give them, unless it got them moments ago; may be called in any thread."""
        if now - self._given_seconds >= PATIENCE_SECONDS:
            self._given_seconds = now
            add_brokers(self._client, self.servers)


def add_brokers(client: Producer | Consumer, servers: str) -> int:
    """Add brokers (`host:port,host:port`) that the client does not have; return how many of these it has then.

    Adding those that it has changes nothing. 0: not with this confluent-kafka. May be called in any thread.
    """
    found = _function()
    if found is None or type(client).__basicsize__ < object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p):
        return 0
    # confluent-kafka's clients begin with librdkafka's handle, behind what every Python object begins with.
    handle = ctypes.c_void_p.from_address(id(client) + object.__basicsize__)
    return found(handle, servers.encode()) if handle.value else 0


@functools.cache
def _function() -> Callable[[ctypes.c_void_p, bytes], int] | None:
    """Return `rd_kafka_brokers_add` of the library that confluent-kafka brings along, None where that is not so."""
    if confluent_kafka.libversion()[1] < AFFECTED:
        return None
    package = Path(confluent_kafka.__file__).parent
    folders = (package.with_name("confluent_kafka.libs"), package / ".dylibs")
    for path in (path for folder in folders for path in folder.glob("librdkafka*")):
        function = ctypes.CDLL(str(path)).rd_kafka_brokers_add
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_char_p), ctypes.c_int
        return function
    log.warning("confluent-kafka's librdkafka is not where wheels have it: a client that loses all brokers stays so")
    return None
