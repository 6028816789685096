"""A role's app at module level, as Faust's own command line wants it: `faust -A tests.system.faust_app ...`.

Its sensor writes down what it is told, a word a line, into the file that SENSED names.
"""

import os
from collections.abc import Callable
from typing import Any

from faust.sensors import Sensor

from tapeline.agents import normalize
from tapeline.streams.settings import load_settings

HEARS = ("message_in", "stream_event_in", "stream_event_out", "message_out", "send_initiated", "send_completed")


def _writes(word: str) -> Callable[..., None]:
    def heard(*_: Any, **__: Any) -> None:
        with open(os.environ["SENSED"], "a", encoding="utf-8") as file:
            file.write(word + "\n")

    return heard


app = normalize.app(load_settings())
if "SENSED" in os.environ:
    app.sensors.add(type("Writes", (Sensor,), {f"on_{word}": _writes(word) for word in HEARS})())
