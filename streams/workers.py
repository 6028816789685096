"""How the workers of this machine are found: each writes where its numbers are into the home.

`telemetry.py` publishes and `status.py` looks. The files are in the format of Prometheus' `file_sd_configs`, so that
Prometheus finds the workers too: `files: [~/.tapeline/run/workers/*.json]`.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import psutil
from pydantic import TypeAdapter, ValidationError

from tapeline.schemas.errors import TapelineError
from tapeline.streams.home import Home, HomeError
from tapeline.streams.stats import RoleStats

log = logging.getLogger(__name__)

_SAME_START_S = 1.0
"""Two readings of when a process started differ by less; a process that got its id from a dead one, by more."""


@dataclass(slots=True)
class WorkerStats:
    """What a worker says about itself at `/status`."""

    worker: str
    """Its name: the same over restarts if it has an --instance."""
    pid: int
    roles: list[RoleStats]
    time_ns: int = 0
    """Its clock when it said so."""

    def refresh(self) -> None:
        """Let each role bring its numbers up to date."""
        for role in self.roles:
            if role.refresh is not None:
                try:
                    role.refresh()
                except Exception:  # old numbers are better than none
                    log.exception("the numbers of role %s could not be refreshed", role.name)

    def encode(self) -> bytes:
        """Return it as JSON."""
        return _ADAPTER.dump_json(self, exclude={"roles": {"__all__": {"refresh"}}})

    @classmethod
    def decode(cls, text: bytes) -> "WorkerStats":
        """Read what `encode` wrote; raise TapelineError if it is something else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise TapelineError(f"this is no Tapeline worker's status: {error.errors()[0]['msg']}") from error


_ADAPTER = TypeAdapter(WorkerStats)


@dataclass(frozen=True, slots=True)
class Published:
    """A worker's file in the home."""

    worker: str
    pid: int
    address: str
    """host:port of its numbers."""


@dataclass(frozen=True, slots=True)
class WorkerFiles:
    """The files of one home."""

    home: Home
    process: psutil.Process = field(default_factory=psutil.Process)

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.home.run / "workers"

    @contextmanager
    def publish(self, worker: str, address: str) -> Iterator[None]:
        """Let others find this process while the context lasts. A home that cannot be written is no reason to stop."""
        file = self.folder / f"{self.process.pid}.json"
        try:
            self.home.create()
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._remove_stale()
            _replace(file, _as_targets(worker, address, self.process))
        except (HomeError, OSError) as error:
            log.warning("`tapeline status` will not find this worker, only with --worker %s: %s", address, error)
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def live(self) -> list[Published]:
        """Return the workers of this home whose process lives, by name; the files of others are left where they are."""
        found = (_read(file) for file in self._files())
        return sorted((one for one in found if one is not None), key=lambda one: (one.worker, one.pid))

    def _files(self) -> Sequence[Path]:
        return sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []

    def _remove_stale(self) -> None:
        for file in self._files():
            if _read(file) is None:
                file.unlink(missing_ok=True)


def _as_targets(worker: str, address: str, process: psutil.Process) -> list[dict[str, object]]:
    # Prometheus keeps `instance`, so that a worker that starts again under its name goes on in the same series,
    # and drops labels that start with two underscores.
    labels = {"instance": worker, "__pid": str(process.pid), "__started": repr(process.create_time())}
    return [{"targets": [address], "labels": labels}]


def _replace(path: Path, value: object) -> None:
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        json.dump(value, file, indent=2)
    os.replace(file.name, path)


def _read(file: Path) -> Published | None:
    """Return what a file says, or None if its process is gone or nothing of ours is in it."""
    try:
        [target] = json.loads(file.read_bytes())
        labels = target["labels"]
        published = Published(labels["instance"], int(labels["__pid"]), target["targets"][0])
        process = psutil.Process(published.pid)
        same = abs(process.create_time() - float(labels["__started"])) < _SAME_START_S
        return published if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, psutil.Error):
        return None
