"""Where signals are kept: PostgreSQL, with TimescaleDB or without. The contract of a store is `contract.py`."""

from tapeline.connectors.stores.contract import Refused, SignalStore, StoreError
from tapeline.connectors.stores.postgres import PostgresStore

__all__ = ["PostgresStore", "Refused", "SignalStore", "StoreError"]
