"""The records of a study as a table for other programs."""

from __future__ import annotations

import csv
import importlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isoflop.cost import AXES
from isoflop.frontier.curve import curves
from isoflop.record import Record
from isoflop.record.file import replacing
from isoflop.run import Study

Row = dict[str, str | int | float | None]


class ExportError(ValueError):
    """A table cannot be written; the message says what to do."""


def write(study: Study, path: Path | str) -> None:
    """Write the records to a file, whole or not at all; its ending names the format: .parquet, .csv or .jsonl.

    One row a record; each cost is one column an axis, `once_flops`, `per_use_usd`. What is unknown (NaN) is null, or
    empty in CSV, and not 0.

    Raises:
        ExportError: another ending; no records; or Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    path = Path(path)
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise ExportError(f"{path.name}: the ending must be one of {', '.join(FORMATS)}")
    if not study.records:
        raise ExportError(f"run {study.info.run} has no records to export")
    with replacing(path) as new:
        form(study, new)


def rows(study: Study) -> Iterator[Row]:
    """The records, flat."""
    return (_flat(study.info.run, r) for r in study.records)


def points(study: Study) -> Iterator[Row]:
    """The curves, flat: a row for each answer of each method, its cost and quality the means over problems.

    So a law can be fitted to a run. Costs that nobody knows are left empty.
    """
    found: dict[tuple[str, str, int], Row] = {}
    for axis in AXES:
        for curve in curves(study.records, axis, 1.0, None, 0.0):
            for at, step in enumerate(curve.steps):
                row = found.setdefault(
                    (curve.model, curve.method, step),
                    {"model": curve.model, "method": curve.method, "answers": step + 1.0},
                )
                cost = float(curve.cost[:, at].mean())
                row[axis] = None if math.isnan(cost) else cost
                row["quality"] = float(curve.quality[:, at].mean())
    return iter(found.values())


def _flat(run: str, r: Record) -> Row:
    row: Row = {
        "run": run,
        "task": r.task,
        "model": r.model,
        "method": r.method,
        "key": r.key,
        "split": r.split,
        "seed": r.seed,
        "step": r.step,
        "quality": r.quality,
        "status": r.status,
        "confidence": r.confidence,
        "answer": r.answer,
    }
    for paid, cost in (("once", r.once), ("per_use", r.per_use)):
        row |= {f"{paid}_{axis}": float(cost[axis]) for axis in AXES}
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()}


def _jsonl(study: Study, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(study))


def _csv(study: Study, path: Path) -> None:
    flat = rows(study)
    first = next(flat)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, first)
        table.writeheader()
        table.writerow(first)
        table.writerows(flat)


def _parquet(study: Study, path: Path) -> None:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ExportError(f"Parquet needs {error.name}: pip install 'isoflop[parquet]', or export to .csv") from error
    kinds: dict[type, Any] = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    whole = list(rows(study))
    # A column that is null throughout has no type of its own: it is a number that nobody knew.
    schema = arrow.schema(
        [(name, kinds[next((type(v) for row in whole if (v := row[name]) is not None), float)]) for name in whole[0]]
    )
    parquet.write_table(arrow.Table.from_pylist(whole, schema=schema), path)


FORMATS: dict[str, Callable[[Study, Path], None]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
