"""Bad input gets one message that names column and row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isoflop.law.columns import BadData, as_columns, read
from isoflop.law.fit import Uncertainty, fit

GOOD = [
    {"params": n, "tokens": d, "loss": 1.8 + 480 / n**0.35 + 2100 / d**0.37}
    for n in (1e7, 1e8, 1e9)
    for d in (1e9, 1e10, 1e11)
]


def broken(row: int, column: str, value: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [dict(r) for r in GOOD]
    rows[row - 1][column] = value
    return rows


MALFORMED = {
    "missing column": (
        [{k: v for k, v in r.items() if k != "tokens"} for r in GOOD],
        r"no column 'tokens'.*params, loss",
    ),
    "one size only": ([r | {"params": 1e8} for r in GOOD], r"column 'params': all 9 rows are 1e\+08"),
    "one loss only": ([r | {"loss": 3.0} for r in GOOD], r"column 'loss': all 9 rows are 3; there is nothing to fit"),
    "loss in two units": (broken(5, "loss", 2500.0), r"column 'loss': row \d is .* and row 5 is 2500.*mixed units"),
    "negative loss": (broken(3, "loss", -2.0), r"column 'loss', row 3: -2 is not positive"),
    "duplicate rows": ([*GOOD, dict(GOOD[4])], r"rows 5 and 10 are the same"),
    "mixed units": (broken(2, "tokens", 10.0), r"column 'tokens': row 2 is 10 and row 1 is 1e\+09.*mixed units"),
    "not finite": (broken(7, "loss", float("nan")), r"column 'loss', row 7: nan is not a finite number"),
    "three rows": (GOOD[:3], r"3 rows for 5 parameters"),
    "text": (broken(1, "params", "70M"), r"column 'params', row 1: '70M' is not a number"),
    "empty field": (broken(9, "tokens", ""), r"column 'tokens', row 9: no value"),
    "absent key": ([*GOOD[:5], {"params": 1e7, "tokens": 1e9}, *GOOD[5:]], r"column 'loss', row 6: no value"),
    "no rows": ([], "no rows"),
    "ragged columns": ({"params": [1e8], "tokens": [1e9, 1e10], "loss": [3.0, 2.0]}, r"'params' has 1 rows.*has 2"),
    "zero tokens": (broken(4, "tokens", 0), r"column 'tokens', row 4: 0 is not positive"),
}


@pytest.mark.parametrize(("table", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(table: list[dict[str, object]], message: str):
    with pytest.raises(BadData, match=message) as error:
        fit(table, uncertainty=Uncertainty(draws=0))
    assert "\n" not in str(error.value)


def test_percentages_are_not_fractions():
    rows = [{"x": 10.0**i, "accuracy": 10.0 * i} for i in range(1, 8)]
    with pytest.raises(BadData, match=r"column 'accuracy', row 1: 10 is not a fraction.*percentage"):
        fit(rows, "log_linear", uncertainty=Uncertainty(draws=0))


def test_the_three_kinds_of_file_hold_the_same(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    csv, jsonl, columnar = (tmp_path / f"runs.{kind}" for kind in ("csv", "jsonl", "parquet"))
    csv.write_text("params,tokens,loss\n" + "".join(f"{r['params']},{r['tokens']},{r['loss']!r}\n" for r in GOOD))
    jsonl.write_text("".join(json.dumps(r) + "\n" for r in GOOD))
    parquet.write_table(pyarrow.table(as_columns(GOOD)), columnar)
    thetas = [fit(path, uncertainty=Uncertainty(draws=0)).theta for path in (csv, jsonl, columnar)]
    assert np.ptp(thetas, axis=0).max() == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "params,loss\n1,2,3\n", r"a.csv, line 2: more fields than the header has columns"),
        ("a.csv", "params,loss\n1\n", r"a.csv, line 2: too few fields, none for column 'loss'"),
        ("a.csv", "params,loss,loss\n1,2,3\n", r"a.csv: two columns are named 'loss' in the header"),
        ("a.csv", "params;loss\n1;2\n", r"a.csv: fields are separated by ';', not by commas"),
        ("a.csv", "params,loss\n", r"a.csv: no rows"),
        ("a.jsonl", '{"params": 1}\nnonsense\n', r"a.jsonl, line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"a.jsonl, line 1: not an object"),
        ("a.txt", "", r"a.txt: only .csv, .jsonl and .parquet"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, text: str, message: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadData, match=message):
        read(path)


def test_text_in_another_encoding_is_named(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("größe,loss\n1,2\n".encode("latin-1"))
    with pytest.raises(BadData, match=r"a.csv: not UTF-8 text"):
        read(path)


def test_spaces_after_commas_are_no_part_of_names(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("params, loss\n1e8, 3.5\n")
    assert read(path) == {"params": ["1e8"], "loss": ["3.5"]}
