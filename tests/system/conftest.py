"""What tests against real servers share: one Kafka and one PostgreSQL a session, started when first used."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tapeline.streams.home import Home
from tapeline.streams.servers import Servers


@contextmanager
def temporary_home() -> Iterator[Home]:
    # Not tmp_path: as root, pytest closes the folder above it to the account that PostgreSQL runs under.
    folder = Path(tempfile.mkdtemp(prefix="tapeline-test-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    try:
        yield home
    finally:
        shutil.rmtree(home.postgres.resolve(), ignore_errors=True)  # it may be a link to elsewhere
        shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Home]:
    """A new home of its own, for tests that start or kill servers."""
    with temporary_home() as home:
        yield home


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The shared servers (`bootstrap_servers`, `dsn`, `home`): make what you need in them and leave them up."""
    with temporary_home() as home, asyncio.Runner() as runner:
        running = Servers.start(home)
        yield runner.run(running.__aenter__())
        runner.run(running.__aexit__(None, None, None))


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """The connection string of a new, empty database."""
    assert servers.dsn is not None
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(servers.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield psycopg.conninfo.make_conninfo(servers.dsn, dbname=name)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def topic_prefix() -> str:
    """A name that no other test uses, to put before names of topics and groups."""
    return f"test-{uuid.uuid4().hex[:12]}-"
