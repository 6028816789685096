"""What is fed in: stretches of recorded files and the simulated market, through `tapeline ingest`.

Frames close by count alone and every connection has a raw partition of its own, so that an input gives the same raw
records every time, and so the same signal ids. `SETTINGS` holds the platform to that.
"""

import gzip
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.system.platform import SHARED

SETTINGS = {
    "TAPELINE_FRAMES__MESSAGES_MAX": "25",
    "TAPELINE_FRAMES__WAIT_MS": "10000",
    "TAPELINE_FRAMES__ADAPTIVE": "false",
}
LOGICS = """
[logics.ema_cross]

[logics.quick]
logic = "ema_cross"
params = { fast = 2, slow = 5 }

[logics.imbalance]
logic = "order_imbalance"
params = { smooth = 2, enter = 0.3, leave = 0.2 }
"""
"""Several units a partition, and thousands of signals."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One `tapeline ingest`. source: of its raw records; feed_seconds: how long it lasted when it was recorded."""

    source: str
    args: tuple[str, ...]
    feed_seconds: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines `first` to `last` of a recorded file."""

    path: Path
    first: int
    last: int

    def connection(self, market: str, name: str, folder: Path) -> Connection:
        """Write the lines to a file of their own and return what feeds it."""
        with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as lines:
            stretch = list(islice(lines, self.first, self.last))
        file = folder / f"{name}.txt"
        file.write_bytes(b"".join(stretch))
        start_ns, end_ns = (int(line.split(b" ", 1)[0]) for line in (stretch[0], stretch[-1]))
        venue = {"spot": "binance", "usdm": "binance-usdm"}[market]
        args = ("binance", str(file), "--market", market, "--connection", name)
        return Connection(f"{venue}/{name}", args, (end_ns - start_ns) / 1e9)


_RECORDED = SHARED / "ws_raw/hftbacktest"
_USDM = Stretch(_RECORDED / "usdm_btcusdt_20240808.gz", 62_000, 78_000)
_SPOT = Stretch(_RECORDED / "spot_btcusdt_20240809.gz", 0, 10_000)
_EXAMPLE = Stretch(Path(__file__).resolve().parents[2] / "docs/examples/btcusdt.txt", 0, 1500)
_SIM_SECONDS = 6.0
_SIM = {
    "seed": 7,
    "seconds": _SIM_SECONDS,
    "rate": 2500,
    "instruments": 12,
    "session-seconds": 2.5,
    "pause-seconds": 0.5,
    "gaps": 0.002,
    "malformed": 0.004,
    "outliers": 0.001,
}


NAMES = ("usdm", "sim", "usdm+sim", "usdm+spot+sim") if SHARED.is_dir() else ("sim", "example+sim")
"""Of the inputs there are: real recordings only where they lie."""


def prepare(folder: Path) -> dict[str, tuple[Connection, ...]]:
    """Return the connections of each of NAMES. folder: for the stretches."""
    options = [part for name, value in _SIM.items() for part in (f"--{name}", str(value))]
    found = {"sim": Connection("sim/seed-7", ("sim", *options), _SIM_SECONDS)}
    if SHARED.is_dir():
        found["usdm"] = _USDM.connection("usdm", "usdm", folder)
        found["spot"] = _SPOT.connection("spot", "spot-4", folder)
    else:
        found["example"] = _EXAMPLE.connection("spot", "example", folder)
    return {name: tuple(found[one] for one in name.split("+")) for name in NAMES}
