"""The store of ticks on a real PostgreSQL."""

import pytest

from tests.system.frame_checks import CHECKS, Check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_on_postgres(check: Check, database: str) -> None:
    check(database)
