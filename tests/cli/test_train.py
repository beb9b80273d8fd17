"""Train, be killed, go on, use: what `train tiny` prints and leaves, and one message for each mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
COMMAND = ("train", "tiny", "--task", "automata", "--params", "9k", "--rows", "4", "--problems", "4")


def test_what_was_trained_can_be_used_and_its_curve_fitted(isoflop):
    trained = isoflop(*COMMAND, "--flops", "1e8", "-o", "mine")
    assert trained.exit_code == 0, trained.output
    assert re.search(r"mine/automata-9k.md: loss [\d.]+ after 10\dM FLOP, [\d,]+ s, [\d.]+\w* J", trained.stdout)
    rows = [json.loads(line) for line in Path("mine/curve.jsonl").read_text().splitlines()]
    assert rows[-1]["params"] == 9328
    assert rows[-1]["flops"] >= 1e8
    ran = isoflop("run", "--task", "automata", "--model", "tiny:mine", "--limit", "2", "--method", "single")
    assert ran.exit_code == 0, ran.output
    assert "tiny:mine" in ran.stdout
    fitted = isoflop("fit", "mine/curve.jsonl", "--law", "power_floor", "--x", "tokens", "--y", "loss", "--json")
    assert json.loads(fitted.stdout)["runs"] == len(rows)
    again = isoflop(*COMMAND, "--flops", "1e8", "-o", "mine")
    assert again.stdout == trained.stdout  # nothing left to do, nothing paid twice


def test_killed_it_goes_on_and_says_so(isoflop):
    words = [*COMMAND, "--flops", "3e8"]
    code = (
        "import sys; from isoflop.model.tiny import train; from isoflop.cli.app import main\n"
        "old = train.Recipe; train.Recipe = lambda **k: old(**k, checkpoint_s=0); main(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, "-o", "killed"], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not Path("killed/checkpoint.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed, whole = isoflop(*words, "-o", "killed"), isoflop(*words, "-o", "whole")
    assert re.search(r"^killed: going on after \d+ steps$", resumed.stderr, re.MULTILINE)
    assert "going on" not in whole.stderr
    model = "automata-9k.safetensors"
    assert Path("killed", model).read_bytes() == Path("whole", model).read_bytes()


def test_time_left_and_cost_are_told_while_it_trains(isoflop, monkeypatch):
    monkeypatch.setattr("isoflop.cli.train._EVERY_S", {True: 0.0, False: 0.0})
    said = isoflop(*COMMAND, "--flops", "3e7", "-o", "mine").stderr
    assert re.search(r"\d+% of 3e\+07 FLOP, step 2, loss [\d.]+, \d+ s, [\d.]+ J; \d+ s left", said)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "chian"), "chian: no generator has this name; there are automata, automata-direct, chain"),
        (("--flops", "0"), "'0' is not a positive number such as"),
        (("--params", "many"), "'many' is not a positive number such as"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(isoflop, words, message):
    result = isoflop(*COMMAND, "--flops", "3e7", "-o", "mine", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("mine").exists()
