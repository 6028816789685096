"""The peer `quix`, seen from the harness: Quix Streams in an environment of its own, since it pins its Kafka client.

It is Apache-2.0, from PyPI, and no dependency of Tapeline; `quix_app.py` is what runs there.
"""

from tests.bench.lab import Lab
from tests.bench.peers.contract import PythonPeer
from tests.bench.peers.environment import Environment

QUIX = Environment("quix", "quixstreams==3.28.1", "orjson==3.13.0")


class Quix(PythonPeer):
    """Quix Streams."""

    def __init__(self) -> None:
        super().__init__("quix", "tests.bench.peers.quix_app", assigned=False, python=str(QUIX.python))

    async def prepare(self, lab: Lab) -> None:
        """Install it into .bench, if it is not there yet."""
        await QUIX.prepare(lab.console)
