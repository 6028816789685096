"""Put the ticks of several streams into one order of arrival, holding about a chunk of each. Pure; `files` calls it."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tapeline.schemas import Ticks, empty_ticks


def merged(streams: Sequence[Iterator[Ticks]]) -> Iterator[Ticks]:
    """Yield the ticks of several streams as one receiver of all would have got them; each keeps its own order.

    By the running maximum of each stream's receive times; at equal ones the earlier stream comes first. How streams
    are cut into chunks changes nothing.
    """
    waiting = [_Waiting(stream) for stream in streams]
    while True:
        for one in waiting:
            if not len(one.ticks):
                one.read()
        # What a stream has not given yet is at the moment of its last tick, or after it.
        safe_ns = min((one.last_ns for one in waiting if not one.ended), default=None)
        parts = [one.take(safe_ns) for one in waiting]
        ticks, clock_ns = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if len(ticks):
            yield ticks[np.argsort(clock_ns, kind="stable")]
        elif safe_ns is None:
            return
        else:
            # All that waits in one of them is of one moment: it has to be known where that moment ends.
            next(one for one in waiting if not one.ended and one.last_ns == safe_ns).read()


class _Waiting:
    """What was read of a stream and not yet handed on; clock_ns: (n,) running maximum of receive times."""

    def __init__(self, stream: Iterator[Ticks]) -> None:
        self._stream = stream
        self.ticks = empty_ticks(0)
        self.clock_ns: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.last_ns = np.iinfo(np.int64).min
        self.ended = False

    def read(self) -> None:
        """Read one chunk more, if there is one."""
        chunk = next(self._stream, None)
        if chunk is None:
            self.ended = True
            return
        clock_ns = np.maximum(np.maximum.accumulate(chunk["ts_recv_ns"]), self.last_ns)
        self.last_ns = int(clock_ns[-1])
        self.ticks = np.concatenate([self.ticks, chunk])
        self.clock_ns = np.concatenate([self.clock_ns, clock_ns])

    def take(self, before_ns: int | None) -> tuple[Ticks, npt.NDArray[np.int64]]:
        """Take out what came before a moment (None: everything): the ticks, (n,), and their clock."""
        end = len(self.ticks) if before_ns is None else int(np.searchsorted(self.clock_ns, before_ns))
        taken = self.ticks[:end], self.clock_ns[:end]
        self.ticks, self.clock_ns = self.ticks[end:], self.clock_ns[end:]
        return taken
