"""`tapeline signals` on a real database."""

import asyncio
import csv
import io
import tracemalloc
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline.connectors.stores import StoreError
from tapeline.connectors.stores.reader import SignalQuery, connect, glob_regex, read_signals
from tapeline.connectors.stores.signals import CSV_COLUMNS
from tapeline.schemas import Signal, UnavailableError
from tapeline.streams import cli
from tests.connectors.stores.examples import encoded, make_signal, make_signals
from tests.system.store_checks import TOPIC, opened

pytestmark = pytest.mark.slow

SIGNALS = [
    *make_signals(40),
    *make_signals(30, start=40, instrument="binance-spot:ÄTHUSDT", price=Decimal("0.00000001"), strength=1e-9),
    make_signal(0, logic="zig,zag", tags={"note": 'say "hi"\n', "a": ""}),
]


@pytest.fixture
def filled(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with SIGNALS, the one that the settings name."""

    async def fill() -> None:
        async with opened(database) as store:
            assert await store.write(encoded(list(reversed(SIGNALS))), TOPIC, 0, 1) == []

    asyncio.run(fill())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_DATABASE__DSN", database)
    return database


def invoke(*args: str) -> Result:
    result = CliRunner().invoke(cli.tapeline, ["signals", *args])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def test_json_lines_are_the_events_byte_for_byte(filled: str) -> None:
    lines = invoke("--format", "json").stdout_bytes.splitlines(keepends=True)
    assert [Signal.decode(line) for line in lines] == SIGNALS
    assert [Signal.decode(line).encode() + b"\n" for line in lines] == lines
    # The one with two tags comes back with them in the database's order.
    assert lines[:-1] == [one.encode() + b"\n" for one in SIGNALS[:-1]]


def test_options_choose(filled: str) -> None:
    some = invoke("--logic", "ema_cross", "--instrument", "binance-*", "--limit", "5", "--format", "json")
    assert [Signal.decode(line) for line in some.stdout.splitlines()] == SIGNALS[65:70]
    since, until = str(SIGNALS[3].ts_event_ns), "2024-08-08T00:00:06Z"  # their times end in 123 ns
    some = invoke("--since", since, "--until", until, "--format", "json")
    assert [Signal.decode(line) for line in some.stdout.splitlines()] == SIGNALS[3:6]


def test_csv_has_every_field(filled: str) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke("--format", "csv").stdout)))
    assert list(rows[0]) == CSV_COLUMNS
    assert [(row["id"], row["price"], int(row["origin_offset"])) for row in rows] == [
        (one.id, format(one.price, "f"), one.origin.offset) for one in SIGNALS
    ]
    assert rows[-1]["tags"] == '{"a":"","note":"say \\"hi\\"\\n"}'


def test_a_table_shows_the_newest(filled: str) -> None:
    result = invoke()
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["event", "time", "(UTC)", "logic", "instrument", "seq", "side", "strength", "price"]
    assert len(rows) == 50
    last = "2024-08-08 00:01:09.000 ema_cross binance-spot:ÄTHUSDT 69 sell 1e-09 0.00000001"
    assert " ".join(rows[-1].split()) == last
    assert len({row.index("ema_cross") for row in rows}) == 1
    assert "The newest 50" in result.stderr
    assert invoke("--logic", "none").stderr == "No signals match.\n"
    assert invoke("--logic", "none").stdout == ""


def test_patterns_match_as_in_a_shell(database: str) -> None:
    texts = st.text("ab-]![*?^\\.:$é\n{(+", max_size=8)

    @settings(max_examples=500, deadline=None)
    @given(texts, texts)
    @example("[]a]", "]").via("a bracket comes first")
    @example("[b-a]", "a").via("a range without members")
    @example("[!b-a]", "a").via("everything")
    @example("[a-]*", "-\n").via("a hyphen at the end")
    def check(pattern: str, text: str) -> None:
        row = connection.execute('SELECT (%s::text COLLATE "C") ~ %s', [text, glob_regex(pattern)]).fetchone()
        assert row == (fnmatchcase(text, pattern),)

    with psycopg.connect(database) as connection:
        check()


def test_what_is_wrong_is_said(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_DATABASE__DSN", database)
    empty = CliRunner().invoke(cli.tapeline, ["signals"])
    assert isinstance(empty.exception, StoreError)
    assert "holds no signals: role persist makes the tables" in str(empty.exception)
    monkeypatch.setenv("TAPELINE_DATABASE__DSN", "postgresql://x@127.0.0.1:1/x")
    away = CliRunner().invoke(cli.tapeline, ["signals"])
    assert isinstance(away.exception, UnavailableError)
    assert "Connection refused" in str(away.exception)
    wrong = CliRunner().invoke(cli.tapeline, ["signals", "--since", "yesterday"])
    assert wrong.exit_code == 2
    assert "write 2024-08-08, 2024-08-08T12:00:00Z, 15m (ago)" in wrong.output


def test_memory_does_not_grow_with_the_rows(filled: str) -> None:
    with psycopg.connect(filled) as connection:
        connection.execute(
            "INSERT INTO signals SELECT gen_random_uuid(), n, tenant, 'many', version, params_hash, instrument, side, "
            "strength, price, ts_event, ts_event_ns, ts_recv_ns, valid_until_ns, origin_partition, n, 0, tags "
            "FROM generate_series(0, 19999) AS n, (SELECT * FROM signals LIMIT 1) AS one"
        )

    def peak_bytes(limit: int) -> int:
        with connect(filled) as connection:
            tracemalloc.start()
            seqs = [one.seq for one in read_signals(connection, SignalQuery(logic="many", limit=limit))]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert seqs == sorted(seqs)
        assert len(seqs) == limit
        return peak

    assert peak_bytes(20_000) < peak_bytes(5_000) + 1_000_000
