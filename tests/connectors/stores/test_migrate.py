import pytest

from tapeline.connectors.stores import StoreError
from tapeline.connectors.stores.migrate import Migration, missing_of, shipped

ONE, TWO, THREE = (Migration(number, f"00{number}_x.sql", f"SELECT {number}") for number in (1, 2, 3))


def row(migration: Migration, **changes: object) -> tuple[int, str, str]:
    return (migration.number, migration.name, str(changes.get("checksum", migration.checksum)))


def test_shipped_migrations_are_numbered_from_1_without_gaps() -> None:
    assert [one.number for one in shipped()] == list(range(1, len(shipped()) + 1))
    assert shipped()[0].name == "001_signals.sql"


@pytest.mark.parametrize(
    ("applied", "missing"),
    [([], [ONE, TWO, THREE]), ([row(ONE)], [TWO, THREE]), ([row(ONE), row(TWO), row(THREE)], [])],
)
def test_what_is_not_applied_is_missing(applied: list[tuple[int, str, str]], missing: list[Migration]) -> None:
    assert missing_of([ONE, TWO, THREE], applied) == missing


def test_a_changed_migration_is_refused() -> None:
    with pytest.raises(StoreError, match=r"made by 002_x\.sql .* not this version's 002_x\.sql.*must not change"):
        missing_of([ONE, TWO, THREE], [row(ONE), row(TWO, checksum="0" * 64)])


def test_a_missing_number_is_refused() -> None:
    with pytest.raises(StoreError, match=r"made by 003_x\.sql"):
        missing_of([ONE, TWO, THREE], [row(ONE), row(THREE)])


def test_a_newer_database_is_refused() -> None:
    with pytest.raises(StoreError, match=r"at migration 3 \(003_x\.sql\), .* knows 2: upgrade"):
        missing_of([ONE, TWO], [row(ONE), row(TWO), row(THREE)])
