"""The store: samples, records, provenance."""

from isoflop.record.record import UNJUDGED, Graded, LedgerRow, Record, RunInfo
from isoflop.record.store import Store, StoredSample, StoreError, Use, default_path

__all__ = [
    "UNJUDGED",
    "Graded",
    "LedgerRow",
    "Record",
    "RunInfo",
    "Store",
    "StoreError",
    "StoredSample",
    "Use",
    "default_path",
]
