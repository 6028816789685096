"""Bybit's scanned tickers: what each says is put over what was said before, and its ticks are completed.

Gives what `bybit_tickers` gives, to the bit. `scan` has checked the messages and made room for the ticks; `bybit` calls
`complete`. All tickers of a frame are read here, or none: what one says counts for those behind it.
"""

from collections.abc import Sequence

import numpy as np

from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.bybit_tickers import TICKER_KEY, UNSAID
from tapeline.connectors.venues.columns import inexact
from tapeline.connectors.venues.contract import Sequences

MAYBE_TICKER = (b"tickers", b"\\")
"""A message that is left and has none of these is no ticker: JSON has no other way to write the word."""
UNKNOWN, EMPTY, EXACT, INEXACT = range(4)
"""What is known of a field."""
PAYMENT = 7
"""The field that is a time: milliseconds, in ticks seconds."""


def complete(assembly: Assembly, state: Sequences) -> bool:
    """Complete the ticks of scanned tickers and change `state`; or change nothing and return False: leave them all."""
    if any(mark in message for message in assembly.left_bytes() for mark in MAYBE_TICKER):
        return False
    # Here, so that whoever only reads recordings does not wait for numba.
    from tapeline.connectors.venues import bybit_kernel, scan

    names, said = assembly.scanned_symbols, assembly.said
    slots = list(dict.fromkeys(said[:, scan.SLOT_OF].tolist()))
    kept = [state.get(TICKER_KEY + names[slot]) for slot in slots]
    before = [text.split(" ") if isinstance(text, str) else [UNSAID] * scan.SAID_FIELDS for text in kept]
    fields = len(names), scan.SAID_FIELDS
    values, known = np.zeros(fields), np.zeros(fields, np.int64)
    values[slots], known[slots] = _read(before)
    starts, sizes = np.zeros(fields, np.int64), np.full(fields, -1)
    body, (words, where) = assembly.body, assembly.scanned_words
    run = bybit_kernel.kernel()
    found = run(np.frombuffer(body, np.uint8), said, values, known, starts, sizes, words, words.view(np.float64), where)
    if found < 0:
        return False
    if found < len(where):
        assembly.drop(where < 0)
    columns = (one[slots].tolist() for one in (known, starts, sizes))
    for slot, texts, *row in zip(slots, before, *columns, strict=True):
        now = [
            UNSAID if what == UNKNOWN else text if size < 0 else str(body[start : start + size], "ascii")
            for text, what, start, size in zip(texts, *row, strict=True)
        ]
        state[TICKER_KEY + names[slot]] = " ".join(now)
    return True


def _read(rows: Sequence[Sequence[str]]) -> tuple[list[list[float]], list[list[int]]]:
    """Return the values of kept fields as ticks have them, and what is known of each."""
    values, known = [], []
    for words in rows:
        numbers = [0.0 if word in ("", UNSAID) else float(word) + 0.0 for word in words]  # -0.0 becomes 0.0
        numbers[PAYMENT] /= 1000
        values.append(numbers)
        long = inexact([word.removeprefix("-") for word in words]).tolist()
        known.append(
            [
                UNKNOWN if word == UNSAID else EMPTY if word == "" else INEXACT if is_long else EXACT
                for word, is_long in zip(words, long, strict=True)
            ]
        )
    return values, known
