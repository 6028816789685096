"""The wheel holds exactly our packages, and lives beside `openai-agents`, which owns the bare name `agents`."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("schemas", "streams", "agents", "connectors")
SHIPPED = {".py", ".sql", ".ksy", ".typed"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", out, source], check=True, capture_output=True)
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_holds_exactly_our_packages(wheel: Path) -> None:
    ours = {
        f"tapeline/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in SHIPPED
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == ours
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert {f"tapeline/{folder}/py.typed" for folder in FOLDERS} <= held


def test_it_installs_beside_openai_agents(wheel: Path, tmp_path: Path) -> None:
    """Each into a folder of its own to compare their files, then both into one to import them."""
    alone = {}
    for what in (str(wheel), "openai-agents"):
        target = tmp_path / Path(what).stem
        pip("install", "--no-deps", "--target", str(target), what)
        pip("install", "--no-deps", "--upgrade", "--target", str(tmp_path / "both"), what)
        alone[what] = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    ours, theirs = alone.values()
    assert any(name.startswith("agents/") for name in theirs), "openai-agents no longer owns that name: mend this test"
    assert not {name for name in ours & theirs if not name.startswith("bin/")}
    code = "import tapeline.agents, importlib.util as u; print(tapeline.agents.__file__, u.find_spec('agents').origin)"
    both = tmp_path / "both"
    run = [sys.executable, "-P", "-S", "-c", f"import sys; sys.path.insert(0, {str(both)!r}); {code}"]
    found = subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    assert found == [str(both / "tapeline/agents/__init__.py"), str(both / "agents/__init__.py")]


def pip(*args: str) -> None:
    """Run pip quietly."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *args]
    subprocess.run(command, check=True, capture_output=True)
