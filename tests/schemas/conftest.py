"""Node and the packages that check our schemas from outside Python; installed once into the environment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NODE = Path(__file__).parent / "node"

Node = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def node() -> Node:
    """Return a function that starts one of the scripts in `node/`, with pipes for stdin and stdout."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed (Debian: apt-get install nodejs npm)")
    folder = Path(sys.prefix) / "node"
    lock = (NODE / "package-lock.json").read_text()
    installed = folder / "installed"
    if not installed.exists() or installed.read_text() != lock:
        folder.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE / name, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
        installed.write_text(lock)

    def start(script: str, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["node", str(NODE / script), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NODE_PATH": str(folder / "node_modules")},
        )

    return start
