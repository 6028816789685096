"""Compiled code is kept where that is possible, and never what a damaged or older file says."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numba.core.caching
import pytest

from tapeline.connectors.venues.compiled import INT64, compiled

pytestmark = pytest.mark.slow


@pytest.fixture
def compile_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Write a module with a function of x, compile it as a new process would; numba's cache is in `tmp_path`."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))

    def compile_as(expression: str) -> Any:
        path = tmp_path / "module.py"
        path.write_text(f"from help import *\n\n\ndef function(x):\n    return {expression}\n")
        (tmp_path / "help.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        spec = importlib.util.spec_from_file_location("module", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return compiled(module.function, INT64)

    return compile_as


def hits(dispatcher: Any) -> int:
    return sum(dispatcher.stats.cache_hits.values())


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_the_next_process_does_not_compile(compile_function: Callable[[str], Any]) -> None:
    first, second = compile_function("x + 1"), compile_function("x + 1")
    assert (first(1), second(1)) == (2, 2)
    assert (hits(first), hits(second)) == (0, 1)


def test_a_change_in_its_folder_is_seen(compile_function: Callable[[str], Any], tmp_path: Path) -> None:
    assert compile_function("x + 1")(1) == 2
    assert compile_function("x + 2")(1) == 3
    (tmp_path / "another.py").write_text("CONSTANT = 1\n")
    assert hits(compile_function("x + 2")) == 0


def test_new_code_has_files_of_its_own(compile_function: Callable[[str], Any], tmp_path: Path) -> None:
    """A process killed after numba wrote the index of new code, before the code, leaves no old code under it."""
    compile_function("x + 1")
    old = set(files(tmp_path))
    compile_function("x + 2")
    (index, code) = sorted(set(files(tmp_path)) - old, key=lambda path: path.suffix, reverse=True)
    assert (index.suffix, code.suffix) == (".nbi", ".nbc")
    code.unlink()
    assert compile_function("x + 2")(1) == 3


def test_a_damaged_cache_is_passed_by_and_forgotten(
    compile_function: Callable[[str], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compile_function("x + 1")
    for damaged in (b"", b"nonsense", None):
        for path in files(tmp_path):
            path.write_bytes(path.read_bytes()[:-9] if damaged is None else damaged)
        caplog.clear()
        again = compile_function("x + 1")
        assert (again(1), hits(again)) == (2, 0)
        assert "function is compiled without a cache" in caplog.text
        compile_function("x + 1")
        assert hits(compile_function("x + 1")) == 1


def test_without_a_folder_it_is_compiled(
    compile_function: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [])
    assert compile_function("x + 1")(1) == 2
    assert "no locator available" in caplog.text
