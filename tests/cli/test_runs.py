"""The commands about runs that were made."""

from __future__ import annotations

import json
import sys

import pytest

from isoflop.record import Store


def test_runs_lists_none_then_the_newest_first(isoflop):
    assert "no runs in .isoflop/store.db yet" in isoflop("runs").stdout
    assert isoflop("runs", "--json").stdout == "[]\n"
    for seed in ("1", "2"):
        isoflop("run", "--task", "sums.jsonl", "--model", "mock:", "--method", "single", "--seed", seed)
    assert [info["config"]["seed"] for info in json.loads(isoflop("runs", "--json").stdout)] == [2, 1]
    table = isoflop("runs").stdout
    assert max(map(len, table.splitlines())) <= 80
    with Store(".isoflop/store.db") as store:
        assert all(f"{info.run}  done" in table for info in store.runs())


def test_looking_makes_no_store(isoflop, tmp_path):
    isoflop("runs")
    isoflop("show")
    assert not (tmp_path / ".isoflop").exists()


def test_show_prints_a_run_again_and_as_json_every_row(ran):
    assert "Frontier" in ran("show").stdout
    shown = json.loads(ran("show", "last", "--json").stdout)
    with Store(".isoflop/store.db") as store:
        run = store.run(shown["run"]).run
        assert [r["answer"] for r in shown["records"]] == [r.answer for r in store.records(run)]
        assert len(shown["ledger"]) == len(store.ledger(run))
        assert sum(g["c"] for g in shown["graded"]) == sum(g.c for g in store.graded(run))


def test_show_takes_another_axis(ran):
    assert "joules" in ran("show", "--axis", "joules").stdout
    assert ran("show", "--axis", "tokens").exit_code == 2


def test_plan_says_what_to_run_and_json_agrees(ran):
    words = ran("plan", "--budget", "tokens_out=100").stdout
    made = json.loads(ran("plan", "--budget", "tokens_out=100", "--json").stdout)
    assert f"run {made['choice']['model']} {made['choice']['method']}" in words
    assert made["choice"]["cost"]["value"] <= 100
    refused = ran("plan", "--budget", "tokens_out=0.1")
    assert refused.exit_code == 2
    assert "nothing fits 0.1 tokens_out" in refused.stderr


def test_report_is_a_page_or_a_picture_by_its_ending(ran, tmp_path):
    assert ran("report").stderr == "wrote report.html\n"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    pytest.importorskip("matplotlib")
    assert ran("report", "last", "-o", "a.svg").exit_code == 0
    assert "<svg" in (tmp_path / "a.svg").read_text()
    refused = ran("report", "-o", "a.doc")
    assert refused.exit_code == 2
    assert "the ending must be .html for a page, or .png, .svg" in refused.stderr


def test_a_picture_without_its_extra_says_what_to_install(ran, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "isoflop.report.picture", raising=False)
    refused = ran("report", "-o", "a.svg")
    assert refused.exit_code == 2
    assert "pip install 'isoflop[plot]'" in refused.stderr


def test_export_names_the_file_by_run_or_as_told(ran, tmp_path):
    with Store(".isoflop/store.db") as store:
        run = store.run("last").run
        n = len(store.records(run))
    assert ran("export", "--to", "jsonl").exit_code == 0
    assert ran("export", "last", "-o", "r.csv").stderr == f"wrote {n} records to r.csv\n"
    assert len((tmp_path / f"{run}.jsonl").read_text().splitlines()) == n
    assert len((tmp_path / "r.csv").read_text().splitlines()) == n + 1
    for words in ((), ("--to", "csv", "-o", "x.jsonl"), ("-o", "x.doc")):
        assert ran("export", *words).exit_code == 2
    assert not (tmp_path / "x.jsonl").exists()
