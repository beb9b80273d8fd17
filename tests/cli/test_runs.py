"""The commands about runs that were made."""

from __future__ import annotations

import json

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
