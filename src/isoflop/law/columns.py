"""Run logs as columns: read, pick out, and refused with one clear message when something is wrong with them."""

from __future__ import annotations

import csv
import importlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from isoflop.law.engine import Floats

Rows: TypeAlias = Sequence[Mapping[str, object]]
Columns: TypeAlias = Mapping[str, Sequence[object] | Floats]
Table: TypeAlias = Rows | Columns | str | Path

_GAP = 4.0
"""Decades without a single value between two rows of an input, from which on they are taken for two units."""
_GAP_OUT = 2.0
"""The same for the output, where it is also more than twice the widest gap of an input: no law is as steep."""


class BadData(ValueError):  # noqa: N818 - says whose fault it is
    """The data cannot be fitted; the message names the column and the row, and says what to do."""


def read(path: str | Path) -> dict[str, list[object]]:
    """Read a .csv, .jsonl or .parquet file into columns.

    Raises:
        BadData: the file is empty, ragged, of another kind, or Parquet without pyarrow.
        OSError: it cannot be opened.
    """
    file = Path(path)
    if file.suffix == ".parquet":
        try:
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError:
            raise BadData(f"{file.name}: reading Parquet needs pyarrow: pip install 'isoflop[parquet]'") from None
        return cast("dict[str, list[object]]", parquet.read_table(file).to_pydict())
    if file.suffix not in {".csv", ".jsonl"}:
        raise BadData(f"{file.name}: only .csv, .jsonl and .parquet are read")
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            rows = (_csv_rows if file.suffix == ".csv" else _json_rows)(lines, file.name)
        except UnicodeDecodeError as error:
            raise BadData(f"{file.name}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if not rows:
        raise BadData(f"{file.name}: no rows")
    return as_columns(rows)


def as_columns(table: Table) -> dict[str, list[object]]:
    """Columns from a path, from rows (missing keys become None) or from columns.

    Raises:
        BadData: no rows, or columns of different lengths.
    """
    if isinstance(table, str | Path):
        return read(table)
    if isinstance(table, Mapping):
        columns = {name: list(cast("Sequence[object]", values)) for name, values in table.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
            raise BadData(f"column {short!r} has {lengths[short]} rows, column {long!r} has {lengths[long]}")
        return columns
    rows = list(table)
    if not rows:
        raise BadData("no rows")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def numbers(
    columns: Mapping[str, Sequence[object]], name: str, *, fraction: bool = False, zero: bool = False
) -> Floats:
    """A column as positive numbers.

    Args:
        columns: all columns.
        name: which.
        fraction: whether values must lie in [0, 1] instead of above 0.
        zero: whether 0 is allowed.

    Raises:
        BadData: no such column; a value that is missing, not a number, not finite, out of range, or in another unit.
    """
    if name not in columns:
        raise BadData(f"no column {name!r}; there are {', '.join(columns)}")
    values = np.array([_number(value, name, row) for row, value in enumerate(columns[name], 1)])
    if fraction:
        if (bad := _first((values < 0) | (values > 1))) is not None:
            hint = " (a percentage? divide by 100)" if 1 < values[bad] <= 100 else ""
            raise BadData(f"column {name!r}, row {bad + 1}: {values[bad]:g} is not a fraction in [0, 1]{hint}")
        return values
    if (bad := _first(values < 0 if zero else values <= 0)) is not None:
        raise BadData(f"column {name!r}, row {bad + 1}: {values[bad]:g} is not positive")
    return values


def check_design(inputs: Mapping[str, Floats], output: str, y: Floats, parameters: int) -> None:
    """Refuse data that no fit could use.

    Args:
        inputs: input columns by name (M each).
        output: name of the measured column.
        y: its values (M).
        parameters: how many the law has; more rows than that are needed.

    Raises:
        BadData: too few rows, a constant column, a row given twice, or mixed units.
    """
    rows = len(y)
    if rows <= parameters:
        raise BadData(f"{rows} rows for {parameters} parameters: at least {parameters + 1} runs are needed")
    widest = 0.0
    for name, values in inputs.items():
        widest = max(widest, _one_unit(name, values, _GAP))
        if np.all(values == values[0]):
            raise BadData(
                f"column {name!r}: all {rows} rows are {values[0]:g}; its effect cannot be seen, runs with at least 2 "
                "different values are needed"
            )
    _one_unit(output, y, max(_GAP_OUT, 2 * widest))
    if np.all(y == y[0]):
        raise BadData(f"column {output!r}: all {rows} rows are {y[0]:g}; there is nothing to fit")
    table = np.stack([*inputs.values(), y], axis=1)
    _, first, back = np.unique(table, axis=0, return_index=True, return_inverse=True)
    if len(first) < rows:
        again = int(np.flatnonzero(first[back.ravel()] != np.arange(rows))[0])
        raise BadData(
            f"rows {first[back.ravel()[again]] + 1} and {again + 1} are the same in {', '.join(map(repr, inputs))} and "
            f"{output!r}: one run logged twice? Keep one of them (repeats that differ are welcome)"
        )


def _one_unit(name: str, values: Floats, allowed: float) -> float:
    """The widest gap between neighbouring values (decades).

    Raises:
        BadData: it is wider than allowed.
    """
    if values.min() <= 0:
        return 0.0
    order = np.argsort(values, kind="stable")
    gaps = np.diff(np.log10(values[order]))
    at = int(np.argmax(gaps))
    if gaps[at] > allowed:
        low, high = order[at], order[at + 1]
        raise BadData(
            f"column {name!r}: row {low + 1} is {values[low]:g} and row {high + 1} is {values[high]:g}, with nothing "
            "between: mixed units? Write all rows in one unit"
        )
    return float(gaps[at])


def _number(value: object, name: str, row: int) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadData(f"column {name!r}, row {row}: no value; fill it in or drop the row")
    try:
        number = float(cast("str", value))
    except (TypeError, ValueError):
        raise BadData(f"column {name!r}, row {row}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise BadData(f"column {name!r}, row {row}: {number} is not a finite number; fill it in or drop the row")
    return number


def _first(bad: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    return int(np.argmax(bad)) if bad.any() else None


def _csv_rows(lines: Iterable[str], name: str) -> list[Mapping[str, object]]:
    reader = csv.DictReader(lines, restkey="", skipinitialspace=True)
    header = reader.fieldnames or ()
    if (twice := next((c for i, c in enumerate(header) if c in header[:i]), None)) is not None:
        raise BadData(f"{name}: two columns are named {twice!r} in the header; rename one")
    if len(header) == 1 and (mark := next((m for m in ";\t" if m in header[0]), None)):
        raise BadData(f"{name}: fields are separated by {mark!r}, not by commas")
    rows: list[Mapping[str, object]] = []
    for row in reader:
        where = f"{name}, line {reader.line_num}"
        if "" in row:
            raise BadData(f"{where}: more fields than the header has columns (a comma inside a number?)")
        if (short := next((c for c, value in row.items() if value is None), None)) is not None:
            raise BadData(f"{where}: too few fields, none for column {short!r}")
        rows.append(row)
    return rows


def _json_rows(lines: Iterable[str], name: str) -> list[Mapping[str, object]]:
    return [_json_row(line, f"{name}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]


def _json_row(line: str, where: str) -> Mapping[str, object]:
    try:
        row: object = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadData(f"{where}: not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise BadData(f"{where}: not an object with named values")
    return cast("Mapping[str, object]", row)
