"""The store: samples, records, provenance."""

from isoflop.record.record import Graded, LedgerRow, Record, RunInfo
from isoflop.record.store import Store, StoredSample, StoreError, Use, default_path

__all__ = ["Graded", "LedgerRow", "Record", "RunInfo", "Store", "StoreError", "StoredSample", "Use", "default_path"]
