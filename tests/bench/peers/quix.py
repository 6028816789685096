"""The peer `quix`, seen from the harness: Quix Streams in an environment of its own, since it pins its Kafka client.

It is Apache-2.0, from PyPI, and no dependency of Tapeline; `quix_app.py` is what runs there.
"""

import asyncio
import hashlib
import shutil
import sys

from tests.bench.lab import ROOT, Lab
from tests.bench.peers.contract import PythonPeer, UnavailablePeerError

WANTED = ("quixstreams==3.28.1", "orjson==3.13.0")
FOLDER = ROOT / ".bench" / f"quix-{hashlib.sha256(repr((WANTED, sys.version)).encode()).hexdigest()[:8]}"


class Quix(PythonPeer):
    """Quix Streams."""

    def __init__(self) -> None:
        super().__init__("quix", "tests.bench.peers.quix_app", assigned=False, python=str(FOLDER / "bin" / "python"))

    async def prepare(self, lab: Lab) -> None:
        """Install it into .bench, if it is not there yet."""
        if FOLDER.exists():
            return
        lab.console.print(f"installing {WANTED[0]} into {FOLDER.relative_to(ROOT)} (only the first time)")
        made = FOLDER.with_name(FOLDER.name + ".new")
        shutil.rmtree(made, ignore_errors=True)
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WANTED]
        for command in ([sys.executable, "-m", "venv", str(made)], pip):
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            _, said = await process.communicate()
            if process.returncode:
                shutil.rmtree(made, ignore_errors=True)
                raise UnavailablePeerError(f"{WANTED[0]} could not be installed: {said.decode()[-500:]}")
        made.rename(FOLDER)  # python finds its packages beside itself, wherever that is
