"""Minute bars by Polars, in its own environment: `python polars_app.py FOLDER SAMPLES` prints seconds and bars."""

import os

os.environ["POLARS_MAX_THREADS"] = "1"  # before it is imported: one core, as ours

import json
import sys
from pathlib import Path
from time import process_time

import numpy as np
import polars as pl  # type: ignore[import-not-found]  # not in our environment


def main(folder: Path, samples: int) -> None:
    """Measure, after a pass that does not count."""
    columns = {name: np.load(folder / f"{name}.npy") for name in ("ts_event_ns", "price", "size")}
    trades = pl.DataFrame(columns).with_columns(pl.col("ts_event_ns").cast(pl.Datetime("ns"))).set_sorted("ts_event_ns")
    price, size = pl.col("price"), pl.col("size")

    def one_pass() -> pl.DataFrame:
        return trades.group_by_dynamic("ts_event_ns", every="1m").agg(
            open=price.first(),
            high=price.max(),
            low=price.min(),
            close=price.last(),
            volume=size.sum(),
            notional=(price * size).sum(),
            trades=pl.len(),
        )

    bars = one_pass()
    seconds = []
    for _ in range(samples):
        started = process_time()
        one_pass()
        seconds.append(process_time() - started)
    found = {name: bars[name].to_list() for name in bars.columns if name != "ts_event_ns"}
    print(json.dumps({"seconds": seconds, "bars": found}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
