"""What a run found out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isoflop.record import Graded, LedgerRow, Record, RunInfo, Store


@dataclass(frozen=True)
class Study:
    """The rows of one run, read from the store.

    Args:
        store: the file they are in.
        info: what was asked, of what provenance, and how it ended.
        records: a row for each answer of each method on each problem.
        ledger: what was spent, by model, method and role.
        graded: how many of each problem's samples were right.
    """

    store: Path
    info: RunInfo
    records: list[Record]
    ledger: list[LedgerRow]
    graded: list[Graded]

    @staticmethod
    def load(store: Store, run: str = "last") -> Study:
        """The run called `run`, or beginning so, or the `last` one.

        Raises:
            StoreError: no such run.
        """
        info = store.run(run)
        return Study(store.path, info, store.records(info.run), store.ledger(info.run), store.graded(info.run))
