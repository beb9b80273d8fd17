"""Running, stopping and going on, as a user sees it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

from isoflop import Bench, Sampling
from isoflop.record import Store


def test_a_run_prints_frontier_plan_and_ledger(isoflop):
    result = isoflop(
        *("run", "--task", "sums.jsonl", "--model", "mock:p=0.4,signal=0.3", "--model", "mock:p=0.6"),
        *("--budget", "tokens_out=100k", "--budget", "wall_s=10min", "--method", "self_consistency(n=8)"),
        *("--allocate", "uniform", "--seed", "3", "--max-tokens", "20", "--split", "dev", "--limit", "9"),
    )
    assert result.exit_code == 0, result.stderr
    for word in ("Frontier", "Plan", "Spent", "Budgets", "overshoot", "mock:p=0.6", "self_consistency"):
        assert word in result.stdout
    assert "\x1b" not in result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    with Store(".isoflop/store.db") as store:
        (info,) = store.runs()
        records = store.records(info.run)
    assert info.config["sampling"]["max_tokens"] == 20
    assert info.config["seed"] == 3
    assert {r.split for r in records} == {"dev"}
    assert len({r.key for r in records}) == 9


def test_the_command_and_python_ask_the_same(isoflop, tmp_path):
    isoflop(
        *("run", "--task", "sums.jsonl", "--model", "mock:p=0.4", "--method", "best_of_n(n=3)", "--seed", "7"),
        *("--budget", "tokens_out=5k", "--max-tokens", "9", "--stop", "x", "--temperature", "0.5", "--top-p", "0.9"),
    )
    sampling = Sampling(max_tokens=9, temperature=0.5, top_p=0.9, stop=("x",))
    bench = Bench("sums.jsonl", ["mock:p=0.4"], ["best_of_n(n=3)"], ["tokens_out=5k"], seed=7, sampling=sampling)
    study = bench.run(tmp_path / "python.db")
    with Store(".isoflop/store.db") as store:
        info = store.run("last")
        assert info.config == study.info.config
        assert list(map(str, store.records(info.run))) == list(map(str, study.records))


def test_interrupted_once_it_stops_in_order_and_says_how_to_go_on(isoflop, tmp_path):
    program = "import sys; from isoflop.cli import main; sys.argv[0] = 'isoflop'; main()"
    words = ["run", "--task", "sums.jsonl", "--model", "mock:latency_s=0.2,concurrency=2", "--method", "best_of_n"]
    environment = os.environ | {"ISOFLOP_STORE": "s.db", "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "s.db").exists() or not samples(tmp_path / "s.db"):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "Traceback" not in said
    assert re.search(r"stopping \(interrupted\): waiting for \d+ samples in flight, which are kept", said)
    (name,) = set(re.findall(r"isoflop resume (\S+)", said))
    paid = samples(tmp_path / "s.db")
    assert 0 < paid < 24 * 16
    result = isoflop("resume", name, "--store", "s.db")
    assert result.exit_code == 0
    assert samples(tmp_path / "s.db") == 24 * 16
    with Store("s.db") as store:
        assert store.run(name).status == "done"


def samples(path) -> int:
    with Store(path) as store:
        return store._db.execute("SELECT count(*) FROM samples").fetchone()[0]


def test_where_models_are_computed_changes_no_record(isoflop):
    words = ("run", "--task", "sums.jsonl", "--model", "mock:p=0.4", "--method", "best_of_n(n=3)", "--limit", "4")
    for store, on in (("here.db", ()), ("there.db", ("--on", "processes:2"))):
        result = isoflop(*words, *on, "--store", store)
        assert result.exit_code == 0, result.stderr
    with Store("here.db") as here, Store("there.db") as there:
        assert list(map(str, here.records(here.run("last").run))) == list(
            map(str, there.records(there.run("last").run))
        )
    assert isoflop("resume", "last", "--on", "processes:2", "--store", "here.db").exit_code == 0
    refused = isoflop(*words, "--on", "cloud:3")
    assert refused.exit_code == 2
    assert "cannot run on 'cloud:3'; write processes:<how many>" in refused.stderr


def test_a_run_stopped_by_its_model_ends_with_1_and_says_why(isoflop):
    result = isoflop("run", "--task", "sums.jsonl", "--model", "mock:error=1", "--method", "single")
    assert result.exit_code == 1
    assert "stopped: the model failed (8 calls in a row)" in result.stderr
    assert "isoflop resume" in result.stderr
