"""The store of bars on a real PostgreSQL."""

import pytest

from tests.connectors.stores.frames import START_NS
from tests.system.bar_checks import CHECKS, Check, make_bars, written
from tests.system.frame_checks import query

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_on_postgres(check: Check, database: str) -> None:
    check(database)


def test_partitions_hold_thirty_days(database: str) -> None:
    written(database, make_bars(2, start_ns=START_NS))
    bounds = "SELECT c.relname, pg_get_expr(relpartbound, c.oid) FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid"
    assert query(database, f"{bounds} WHERE inhparent = 'bars'::regclass") == [
        ("bars_20240716", "FOR VALUES FROM ('2024-07-16 00:00:00+00') TO ('2024-08-15 00:00:00+00')")
    ]
