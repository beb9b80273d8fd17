"""The store keeps what it was given, once, and survives what happens to files."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace

import pytest

from isoflop.cost import FREE, Cost, in_sequence
from isoflop.record import Graded, Record, RunInfo, Store, StoredSample, StoreError, Use
from isoflop.record.store import _pack, _total


def sample(i: int, run: str = "r", **changes) -> StoredSample:
    cost = Cost(flops=math.nan, tokens_in=3, tokens_out=i, wall_s=0.25)
    kept = StoredSample(i.to_bytes(16, "big"), run, "m", f"text {i} é\n", (1, i), (-0.5, -0.25), "stop", 1, cost, FREE)
    return replace(kept, **changes)


def record(key: str, step: int, **changes) -> Record:
    return replace(Record("m", "single", "t", key, "dev", 0, step, FREE, Cost(tokens_out=step), 1.0), **changes)


def test_samples_come_back_as_they_were(tmp_path):
    kept = [
        sample(1),
        sample(2, token_ids=None, logprobs=None, finish_reason="length"),
        sample(3, attempts=3, wasted=Cost(usd=1)),
    ]
    with Store(tmp_path / "deep" / "s.db") as store:
        store.put_samples(kept)
    with Store(tmp_path / "deep" / "s.db") as store:
        found = store.get_samples([s.sample for s in kept] + [b"none of them    "])
    assert len(found) == 3
    for s in kept:
        back = found[s.sample]
        assert math.isnan(back.cost.flops)  # unknown stays unknown
        assert replace(back, cost=replace(back.cost, flops=0)) == replace(s, cost=replace(s.cost, flops=0))


def test_a_sample_is_kept_once(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.put_samples([sample(1)])
        store.put_samples([sample(1, run="later", text="another"), sample(2)])
        assert store.get_samples([sample(1).sample])[sample(1).sample].run == "r"
        assert len(store.get_samples([sample(i).sample for i in range(1500)])) == 2


def test_records_and_grades_come_back_sorted_and_replace_themselves(tmp_path):
    rows = [
        record("b", 0),
        record("a", 1, quality=math.nan, status="failed: no"),
        record("a", 0, answer="x", confidence=0.5),
    ]
    with Store(tmp_path / "s.db") as store:
        store.put_records("r", rows)
        store.put_records("r", [record("b", 0, quality=0.0)])
        store.put_records("other", [record("c", 0)])
        found = store.records("r")
        assert [(r.key, r.step) for r in found] == [("a", 0), ("a", 1), ("b", 0)]
        assert found[0] == rows[2]
        assert math.isnan(found[1].quality)
        assert found[2].quality == 0.0
        store.put_graded("r", [Graded("m", "b", "dev", None, 8, 2), Graded("m", "a", "test", 3, 8, 8)])
        assert store.graded("r") == [Graded("m", "a", "test", 3, 8, 8), Graded("m", "b", "dev", None, 8, 2)]


def test_the_ledger_tells_charged_budgeted_and_paid_apart(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.put_samples([sample(i, run="old" if i < 3 else "r") for i in range(1, 6)])
        store.put_samples([sample(i, attempts=2, wasted=Cost(tokens_out=i + 1)) for i in (6, 7)])
        uses = [
            Use(0, sample(1).sample, "m", "a", "k", "generate", False),
            Use(1, sample(3).sample, "m", "a", "k", "generate", False),
            Use(2, sample(3).sample, "m", "b", "k", "generate", True),
            Use(3, sample(4).sample, "m", "b", "k", "judge", False),
            Use(4, sample(6).sample, "m", "b", "k", "generate", False),
        ]
        store.put_uses("r", uses)
        ledger = {(row.method, row.role): row for row in store.ledger("r")}
    a = ledger["a", "generate"]
    assert (a.samples, a.shared, a.replayed) == (2, 0, 1)
    assert (a.charged.tokens_out, a.budgeted.tokens_out, a.paid.tokens_out) == (1 + 3, 1 + 3, 3)
    b = ledger["b", "generate"]
    assert (b.samples, b.shared, b.replayed) == (2, 1, 0)
    assert (b.charged.tokens_out, b.budgeted.tokens_out, b.paid.tokens_out) == (3 + 6, 6, 6)
    assert ledger["b", "judge"].paid.tokens_out == 4
    assert ledger["b", "retry"].paid.tokens_out == 7
    assert ledger["", "cancelled"].paid.tokens_out == 5 + 7  # paid for, and no method got it
    assert ledger["", "retry"].paid.tokens_out == 8
    assert math.isnan(a.charged.flops)
    assert len(ledger) == 6


def test_runs_are_found_by_name_beginning_or_last(tmp_path):
    with Store(tmp_path / "s.db") as store:
        with pytest.raises(StoreError, match="no run 'last'.*none yet"):
            store.run("last")
        for i, name in enumerate(["20260101-aa", "20260101-ab", "20260202-cc"]):
            store.begin(RunInfo(name, float(i), "running", {"seed": i}, {"cpu": "x"}))
        store.finish("20260202-cc", "done", {"wall_s": 1.5})
        assert store.run("last") == RunInfo("20260202-cc", 2.0, "done", {"seed": 2}, {"cpu": "x"}, {"wall_s": 1.5})
        assert store.run("20260202").run == "20260202-cc"
        assert [r.run for r in store.runs()] == ["20260202-cc", "20260101-ab", "20260101-aa"]
        with pytest.raises(StoreError, match="2 runs begin with '20260101'"):
            store.run("20260101")
        with pytest.raises(StoreError, match="no run 'x'.*the newest are: 20260202-cc"):
            store.run("x")
        with pytest.raises(StoreError, match="UNIQUE"):
            store.begin(RunInfo("20260202-cc", 0.0, "running", {}, {}))


def test_a_full_disk_keeps_all_or_nothing_of_a_batch_and_works_again(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.put_samples([sample(1)])
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages + 2}")
        batch = [sample(i, text="x" * 3000) for i in range(2, 30)]
        with pytest.raises(StoreError, match=r"cannot write to the store .*s\.db: database or disk is full"):
            store.put_samples(batch)
        assert list(store.get_samples([s.sample for s in batch])) == []
        store._db.execute("PRAGMA max_page_count=1000000")
        store.put_samples(batch)
        assert len(store.get_samples([s.sample for s in batch])) == 28


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("this is a letter to my aunt " * 100)
    with pytest.raises(StoreError, match=r"cannot open the store .*text\.db: file is not a database"):
        Store(tmp_path / "text.db")
    assert (tmp_path / "text.db").read_text().startswith("this is a letter")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(StoreError, match="has version 99, this isoflop reads 1; update isoflop"):
        Store(tmp_path / "newer.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the store"):
        Store(tmp_path / "file" / "s.db")


def test_a_ledger_adds_as_costs_do_and_the_unknown_spreads():
    costs = [Cost(1e15, math.nan, 5.0, 3, 1, 2, 0.1, 0.2, 0.3), Cost(1, 2, 9.0, 4, 0, 7, 0.2, 0.1, math.nan), FREE]
    total, expected = _total(map(_pack, costs)), in_sequence(costs)
    assert list(total.as_dict().values()) == pytest.approx(list(expected.as_dict().values()), nan_ok=True, rel=0)
    assert _total([]) == FREE
    assert math.isnan(_total([_pack(Cost(peak_bytes=math.nan)), _pack(Cost(peak_bytes=1.0))]).peak_bytes)
