"""An environment of its own for a peer that pins what Tapeline needs in another version; made once, kept in .bench."""

import asyncio
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.lab import ROOT, BenchError
from tests.bench.peers.contract import UnavailablePeerError


class Environment:
    """Packages from PyPI, name==version each, in a virtual environment that is not ours."""

    def __init__(self, name: str, *wanted: str) -> None:
        self._wanted = wanted
        digest = hashlib.sha256(repr((wanted, sys.version)).encode()).hexdigest()
        self._folder = ROOT / ".bench" / f"{name}-{digest[:8]}"
        self.python = self._folder / "bin" / "python"

    async def prepare(self, console: Console) -> Path:
        """Install it, if it is not there yet; return its Python. Raises UnavailablePeerError."""
        if self._folder.exists():
            return self.python
        folder = self._folder
        console.print(f"installing {self._wanted[0]} into {folder.relative_to(ROOT)} (only the first time)")
        made = folder.with_name(folder.name + ".new")
        shutil.rmtree(made, ignore_errors=True)
        install = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([sys.executable, "-m", "venv", str(made)], [*install, *self._wanted]):
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            _, said = await process.communicate()
            if process.returncode:
                shutil.rmtree(made, ignore_errors=True)
                raise UnavailablePeerError(f"{self._wanted[0]} could not be installed: {said.decode()[-500:]}")
        made.rename(folder)  # python finds its packages beside itself, wherever that is
        return self.python


async def answer_of(what: str, python: Path, app: Path, *arguments: object) -> Any:
    """Run a peer's program to its end and return the JSON that it prints; raise BenchError that says what failed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, (python, app, *arguments)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, error = await process.communicate()
    if process.returncode:
        raise BenchError(f"{what}: {error.decode()[-500:]}")
    return json.loads(said)
