"""Apache Kafka's jars: fetched by coordinates once, kept in the user's cache, shared by all homes.

`kafka.py` asks for the class path, `doctor` whether it is there. The cache is `$XDG_CACHE_HOME/tapeline`
(`~/.cache/tapeline`); what Maven already holds in `~/.m2` (or `$M2_REPO`) is read and never written.
"""

import asyncio
import json
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tapeline.schemas.errors import UnavailableError

KAFKA_VERSION = "4.3.1"
_KAFKA = ("org.apache.kafka", "kafka_2.13")
_MANIFEST = "jars.json"
_TIMEOUT_S = 30

Progress = Callable[[str], None]
"""Told in a few words what goes on."""


def jars_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return where the jars of KAFKA_VERSION are kept, whether they are there yet or not."""
    cache = Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "tapeline" / f"kafka-{KAFKA_VERSION}"


def cached_jars(folder: Path) -> list[Path] | None:
    """Return the class path in `folder`, or None unless every jar that was put there is there with its size."""
    try:
        sizes: dict[str, int] = json.loads((folder / _MANIFEST).read_text())
        jars = [folder / name for name in sizes]
        return jars if all(jar.stat().st_size == sizes[jar.name] for jar in jars) else None
    except (OSError, ValueError):
        return None


async def kafka_jars(on_progress: Progress, folder: Path | None = None) -> list[Path]:
    """Return the class path, fetching the jars if they are not here; raises UnavailableError if that fails.

    The fetch runs in a daemon thread, so that Ctrl-C need not wait for a slow network.
    """
    folder = folder or jars_dir()
    jars = cached_jars(folder)
    if jars is not None:
        return jars
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Path]] = loop.create_future()

    def settle(jars: list[Path], error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(jars)
        else:
            done.set_exception(error)

    def fetch() -> None:
        try:
            jars = _fetch(folder, lambda text: _tell(loop, on_progress, text))
        except Exception as error:
            _tell(loop, settle, [], error)
        else:
            _tell(loop, settle, jars, None)

    threading.Thread(target=fetch, name="kafka-jars", daemon=True).start()
    return await done


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *args)


def _fetch(folder: Path, on_progress: Progress) -> list[Path]:
    """Resolve and download into a folder beside the final one; only a whole set takes the final name."""
    # Imported here: it costs 0.4 s, and only the first run of a machine needs it.
    import requests
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL, default_maven_repo
    from jgo.maven import MavenContext
    from jgo.parse import Coordinate

    repositories = {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as staging:
            context = MavenContext(
                repo_cache=Path(staging, "m2"),
                local_repos=[default_maven_repo()],
                remote_repos=repositories,
                timeout=_TIMEOUT_S,
            )
            group, artifact = _KAFKA
            on_progress(f"resolving {group}:{artifact}:{KAFKA_VERSION} (only the first time)")
            coordinate = Coordinate(groupId=group, artifactId=artifact, version=KAFKA_VERSION, scope="compile")
            inputs, others = context.resolver.resolve([context.create_dependency(coordinate)])
            artifacts = [one.artifact for one in (*inputs, *others) if one.scope in ("compile", "runtime")]
            # Kafka logs through slf4j and leaves the choice of a binding to us: the one of the log4j it brings.
            core = next(one for one in artifacts if one.artifactId == "log4j-core")
            artifacts.append(context.project(core.groupId, "log4j-slf4j-impl").at_version(core.version).artifact())
            jars = Path(staging, "jars")
            jars.mkdir()
            sizes: dict[str, int] = {}
            for number, one in enumerate(artifacts, 1):
                on_progress(f"fetching Kafka {KAFKA_VERSION}: jar {number} of {len(artifacts)} (only the first time)")
                jar = Path(shutil.copy(one.resolve(), jars))
                with zipfile.ZipFile(jar) as archive:  # a cut download in ~/.m2 stays there for good
                    broken = archive.testzip()
                if broken:
                    raise zipfile.BadZipFile(f"{jar.name} is damaged at {broken}")
                sizes[jar.name] = jar.stat().st_size
            (jars / _MANIFEST).write_text(json.dumps(sizes, indent=2))
            if cached_jars(folder) is None:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                jars.rename(folder)
    except (requests.RequestException, zipfile.BadZipFile, RuntimeError, OSError) as error:
        raise UnavailableError(
            f"Apache Kafka {KAFKA_VERSION} is not on this machine yet, and its jars could not be fetched from "
            f"{', '.join(repositories.values())} into {folder}: {_first_cause(error)}. "
            "The first `tapeline up` needs the network once (45 MB); later ones do not. Check the connection and "
            "HTTPS_PROXY, name a mirror in ~/.config/jgo.conf, or use another Kafka with [kafka] bootstrap_servers."
        ) from error
    found = cached_jars(folder)
    assert found is not None, "the folder was renamed whole"  # noqa: S101
    return found


def _first_cause(error: BaseException) -> str:
    """Return the innermost reason in one line: HTTP clients wrap 'connection refused' four times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
