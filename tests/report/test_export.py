from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace

import pytest

from isoflop.report import export
from isoflop.report.export import ExportError


def test_all_formats_hold_the_same_rows(hostile, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for ending in export.FORMATS:
        export.write(hostile, tmp_path / f"r{ending}")
    from_json = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    with (tmp_path / "r.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert from_json == from_parquet == list(export.rows(hostile))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in from_json] == from_csv
    assert len(from_json) == len(hostile.records)


def test_unknown_is_null_and_free_is_zero(hostile):
    row = next(export.rows(hostile))
    assert row["per_use_usd"] is None
    assert row["once_usd"] == 0
    assert row["quality"] is None


def test_a_wrong_ending_or_nothing_to_write_is_one_clear_error(study, empty, tmp_path):
    with pytest.raises(ExportError, match=r"\.parquet, \.csv, \.jsonl"):
        export.write(study, tmp_path / "r.xlsx")
    with pytest.raises(ExportError, match="no records"):
        export.write(empty(), tmp_path / "r.csv")
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_pyarrow_names_the_extra(study, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ExportError, match=r"pip install 'isoflop\[parquet\]'"):
        export.write(study, tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_column_unknown_throughout_is_a_number(study, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    few = replace(study, records=[replace(r, confidence=float("nan")) for r in study.records[:3]])
    export.write(few, tmp_path / "r.parquet")
    assert str(parquet.read_schema(tmp_path / "r.parquet").field("confidence").type) == "double"
