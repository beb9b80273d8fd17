"""The public tables that the laws' benchmarks read, where this machine has them."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import numpy as np

from isoflop.claim.public_runs import folders

Rows = list[dict[str, str]]
Runs = tuple[str, np.ndarray, np.ndarray]
PORIAN = ("dataset", "hparams", "warmup", "decay", "param_count", "val")


def table(name: str) -> Rows:
    """The rows of a public table; none where it is not."""
    for folder in folders():
        if (path := folder / "law" / name).exists():
            with path.open(newline="", encoding="utf-8") as lines:
                return list(csv.DictReader(lines))
    return []


def columns(rows: Rows, *wanted: str) -> np.ndarray:
    return np.array([[float(r[c]) for r in rows] for c in wanted])


def chinchilla_sets() -> Iterator[Runs]:
    """The public tables of (N, D, loss) with runs that see each token once."""
    rows = table("kyo_takano_chinchilla_df.csv")
    if rows:
        yield "Chinchilla points (kyo-takano)", columns(rows, "N", "D"), columns(rows, "loss")[0]
    rows = table("gadre_openlm_runs.csv")
    for corpus in sorted({r["dataset"] for r in rows}):
        part = [r for r in rows if r["dataset"] == corpus]
        yield f"open_lm {corpus}", columns(part, "params", "tokens"), columns(part, "loss_c4_val")[0]
    rows = [r for r in table("datablations_c4_runs.csv") if float(r["epochs"]) <= 1]
    if rows:
        yield "datablations, one epoch", columns(rows, "N", "D_total"), columns(rows, "val_loss")[0]
    rows = table("porian_isoflop_points.csv")
    for key in sorted({tuple(r[k] for k in PORIAN) for r in rows}):
        part = [r for r in rows if tuple(r[k] for k in PORIAN) == key]
        yield "Porian " + "/".join(key), columns(part, "n", "tokens"), columns(part, "loss")[0]
