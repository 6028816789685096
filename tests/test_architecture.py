"""Rules about the code itself: who may import whom, what each folder's front door shows, where Faust may be."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "schemas": {"schemas"},
    "streams": {"streams", "schemas"},
    "connectors": {"connectors", "streams", "schemas"},
    "agents": {"agents", "connectors", "streams", "schemas"},
}
FAUST_FILES = {"streams/transport.py"}
PURE = ("agents/logic",)
FILES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write tapeline.* in full"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("tapeline.")}
    assert ours <= MAY_IMPORT[folder], f"{folder} must not import {ours - MAY_IMPORT[folder]}"
    bare = {name.split(".")[0] for name in imports_of(path)} & (MAY_IMPORT.keys() | {"tests", "backtest", "deploy"})
    assert not bare, f"import tapeline.*, not {bare}"


def test_faust_is_only_where_it_may_be() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name.split(".")[0] in ("faust", "mode") for name in imports_of(path))
    }
    assert users == FAUST_FILES


def test_pure_folders_wait_for_nothing() -> None:
    waiting = {"asyncio", "socket", "confluent_kafka", "psycopg", "faust", "time", "threading", "subprocess"}
    for folder in PURE:
        for path in (ROOT / folder).rglob("*.py"):
            used = {name.split(".")[0] for name in imports_of(path)} & waiting
            assert not used, f"{path.relative_to(ROOT)} is pure and must not import {used}"


@pytest.mark.parametrize("folder", [*MAY_IMPORT, "agents.logic", "connectors.venues", "connectors.stores"])
def test_front_door_shows_what_it_lists(folder: str) -> None:
    module = importlib.import_module(f"tapeline.{folder}")
    assert module.__doc__
    listed = list(module.__all__)
    assert len(set(listed)) == len(listed)
    for name in listed:
        assert hasattr(module, name)
    shown = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("tapeline.")
    }
    assert shown <= set(listed), f"imported but not listed in __all__: {shown - set(listed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
