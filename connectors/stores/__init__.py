"""Where signals, ticks and bars are kept: PostgreSQL, with TimescaleDB or without. `contract.py` says what is owed."""

from tapeline.connectors.stores.bars import BarStore
from tapeline.connectors.stores.contract import FrameStore, Refused, SignalStore, StoreError
from tapeline.connectors.stores.postgres import PostgresStore
from tapeline.connectors.stores.ticks import TickStore

__all__ = ["BarStore", "FrameStore", "PostgresStore", "Refused", "SignalStore", "StoreError", "TickStore"]
