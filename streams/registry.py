"""The instrument registry: topic `instruments`, one partition, the first record of a name decides its id.

The normaliser registers names as they appear; logics look ids up. An id is the hash of the name, the next
free one on a collision; whoever proposes reads back what the topic says, and nobody recomputes it.
"""

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence

import xxhash

from tapeline.schemas import EventError, Instrument, TapelineError, UnavailableError, partition_of
from tapeline.schemas.topics import INSTRUMENTS
from tapeline.streams.producer import Producer
from tapeline.streams.state import LogReader, PartitionTail

ID_MODULUS = 2**32
PROPOSALS_MAX = 100


class UnknownInstrumentError(TapelineError):
    """A frame has an instrument that the registry, as far as it was read, does not know."""


def first_free_id(name: str, taken: Mapping[int, str]) -> int:
    """Return the hash of `name` (XXH3, 32 bits), or the next id that is not taken; 0 belongs to TIME ticks."""
    candidate = xxhash.xxh3_64_intdigest(name.encode()) % ID_MODULUS
    while candidate == 0 or candidate in taken:
        candidate = (candidate + 1) % ID_MODULUS
    return candidate


class Registry:
    """What the topic says about instruments, as far as it was read."""

    def __init__(self, properties: Mapping[str, str | int], ticks_partitions: int) -> None:
        self._reader = LogReader(properties)
        self._tail = PartitionTail(self._reader, INSTRUMENTS.name, 0)
        self._ticks_partitions = ticks_partitions
        self._lock = threading.Lock()
        self.by_name: dict[str, Instrument] = {}
        self.by_id: dict[int, Instrument] = {}

    async def refresh(self) -> None:
        """Read what was added to the topic."""
        await asyncio.to_thread(self._catch_up)

    def learn(self, instrument: Instrument) -> bool:
        """Take a record of the topic in its order; return False if it changes nothing.

        The first record of a name says its id and partition for ever; later ones may describe it anew.
        """
        known = self.by_name.get(instrument.name)
        if known is None:
            if instrument.id in self.by_id:
                return False
        elif (known.id, known.partition) != (instrument.id, instrument.partition) or (
            instrument.valid_from_ns <= known.valid_from_ns
        ):
            return False
        self.by_name[instrument.name] = instrument
        self.by_id[instrument.id] = instrument
        return True

    def instrument(self, instrument_id: int) -> Instrument:
        """Return the instrument of an id; raise UnknownInstrumentError: `refresh`, and ask again."""
        found = self.by_id.get(instrument_id)
        if found is None:
            raise UnknownInstrumentError(
                f"instrument {instrument_id} is in a frame but not in topic `{INSTRUMENTS.name}`; "
                "do they belong together?"
            )
        return found

    async def register(self, names: Iterable[str], producer: Producer) -> None:
        """Make every name known: propose those that are not, and read back what the topic made of it."""
        for _ in range(PROPOSALS_MAX):
            missing = [name for name in names if name not in self.by_name]
            if not missing:
                return
            await self.refresh()
            missing = [name for name in missing if name not in self.by_name]
            taken = {number: instrument.name for number, instrument in self.by_id.items()}
            for name in missing:
                number = first_free_id(name, taken)
                taken[number] = name
                partition = partition_of(name, self._ticks_partitions)
                proposal = Instrument(id=number, name=name, partition=partition)
                await producer.send(INSTRUMENTS.name, proposal.encode(), key=name, partition=0)
            await producer.flush()
            await self.refresh()
        raise UnavailableError(f"topic {INSTRUMENTS.name} did not take the names {missing}; is it the right broker?")

    async def describe(self, instruments: Sequence[Instrument], producer: Producer) -> None:
        """Write new versions of instruments that are known; whoever reads the topic learns them."""
        for instrument in instruments:
            await producer.send(INSTRUMENTS.name, instrument.encode(), key=instrument.name, partition=0)
        if instruments:
            await producer.flush()
            await self.refresh()

    def _catch_up(self) -> None:
        with self._lock:
            for offset, _, value in self._tail.read():
                if value is None:
                    continue
                try:
                    self.learn(Instrument.decode(value))
                except EventError as error:
                    # Going on without it could give its name another id.
                    raise EventError(f"topic {INSTRUMENTS.name}, offset {offset}: {error}") from error

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()
