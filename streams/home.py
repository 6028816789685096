"""The directory that holds everything one platform on this machine keeps: data, logs, addresses, a lock.

`tapeline up` holds its lock and publishes the addresses of the servers that it started; every other command
finds a running `up` here. Nothing in this module starts or asks a server.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from tapeline.schemas.errors import TapelineError

_LOCK_TRIES = 20
"""Commands that look for a running `up` hold the lock for an instant: taking it is tried for a second."""


class HomeError(TapelineError):
    """The home directory cannot be used: it is in use, not writable, or holds a file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running `up` is reached; None stands for a server that it did not start (the settings name another)."""

    pid: int
    started_ns: int
    bootstrap_servers: str | None = None
    dsn: str | None = None
    pids: Mapping[str, int] = field(default_factory=dict)
    """Process id by name of each server and role that is running."""


@dataclass(frozen=True, slots=True)
class Home:
    """One home directory, whether it exists yet or not."""

    path: Path

    @classmethod
    def at(cls, path: Path | None = None, env: Mapping[str, str] = os.environ) -> "Home":
        """Return the home at `path`, else at TAPELINE_HOME, else at `~/.tapeline`; creates nothing."""
        chosen = path or Path(env.get("TAPELINE_HOME") or "~/.tapeline")
        return cls(chosen.expanduser().absolute())

    @property
    def kafka(self) -> Path:
        """The directory of the embedded Kafka: configuration and log segments."""
        return self.path / "kafka"

    @property
    def postgres(self) -> Path:
        """The directory of the embedded PostgreSQL (a link elsewhere where its account cannot enter this home)."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        """The directory with one log file a process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """The directory with what is true only while an `up` runs: lock, addresses, status, process ids."""
        return self.path / "run"

    @property
    def addresses_file(self) -> Path:
        """The file that `publish` writes."""
        return self.run / "addresses.json"

    @property
    def status_file(self) -> Path:
        """The file in which an `up` says how its processes are."""
        return self.run / "status.json"

    def create(self) -> None:
        """Make the directories that are missing; raises HomeError when that is not possible.

        The home lets others pass through (0711) but not look: as root, PostgreSQL runs under another account.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711)
            for folder in (self.kafka, self.logs, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"cannot write in {self.path}: {error.strerror}. Set TAPELINE_HOME to a directory of yours."
            ) from error

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one `up` of this home while the context lasts; raises HomeError, naming the other, if there is one.

        The kernel drops the lock with the process, however it ends: a lock that is held means a live `up`.
        """
        self.create()
        with open(self.run / "lock", "a+", encoding="utf-8") as lock:
            for attempt in range(_LOCK_TRIES):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if attempt < _LOCK_TRIES - 1:
                        time.sleep(0.05)
            else:
                lock.seek(0)
                raise HomeError(
                    f"another `tapeline up` (process {lock.read().strip() or 'unknown'}) runs in {self.path}. "
                    "Stop it first, or set TAPELINE_HOME to another directory."
                )
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            self._forget()  # what a killed holder left is not ours
            try:
                yield
            finally:
                self._forget()

    def _forget(self) -> None:
        self.addresses_file.unlink(missing_ok=True)
        self.status_file.unlink(missing_ok=True)

    def held(self) -> bool:
        """Say whether an `up` runs in this home now."""
        try:
            with open(self.run / "lock", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            raise HomeError(
                f"cannot read {self.run / 'lock'}: {error.strerror}. Run as the user that started it."
            ) from error
        return False

    def publish(self, addresses: Addresses) -> None:
        """Let other commands find these addresses; only who holds the home calls this."""
        self.write_json(self.addresses_file, asdict(addresses))

    def addresses(self) -> Addresses | None:
        """Return the addresses of the `up` that runs here, or None when none runs or it is not ready yet."""
        found = self.read_json(self.addresses_file) if self.held() else None
        return None if found is None else Addresses(**found)

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        """Replace `path` in one step: a reader sees the old or the new, whole; only the owner may read it."""
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            json.dump(value, file, indent=2)
        os.replace(file.name, path)

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """Return what `write_json` wrote, or None if it is not there; raises HomeError if it cannot be read."""
        try:
            value: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HomeError(
                f"cannot read {path}: {error}. Stop `tapeline up`, remove that file and start again."
            ) from error
        return value
