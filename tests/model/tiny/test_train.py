import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from isoflop.model.tiny.decoder import PAD
from isoflop.model.tiny.train import Recipe, Training, batch, train
from isoflop.task.generate import generator

torch.set_num_threads(1)
TASK = generator("automata")
RECIPE = Recipe(rows=4, checkpoint_s=0)
PARAMS, FLOPS = 33e3, 4e8


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_training_is_the_same_to_the_bit_and_learns(tmp_path):
    a = train(TASK, PARAMS, FLOPS, 0, tmp_path / "a", RECIPE)
    b = train(TASK, PARAMS, FLOPS, 0, tmp_path / "b", RECIPE)
    c = train(TASK, PARAMS, FLOPS, 1, tmp_path / "c", RECIPE)
    assert same(a.decoder, b.decoder)
    assert not same(a.decoder, c.decoder)
    assert a.rows[-1].loss < 0.8 * a.rows[0].loss
    assert FLOPS <= a.cost.flops < 1.1 * FLOPS
    assert a.cost.joules > 0
    rows = [json.loads(line) for line in (tmp_path / "a" / "curve.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [row.loss for row in a.rows]
    assert a.rows[-1].step * 4 * 35 > a.rows[-1].tokens > a.rows[-1].targets


def test_killed_it_goes_on_to_the_same_weights(tmp_path):
    whole = train(TASK, PARAMS, FLOPS, 0, tmp_path / "whole", RECIPE)
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from isoflop.model.tiny.train import Recipe, train\nfrom isoflop.task.generate import generator\n"
        f"train(generator('automata'), {PARAMS}, {FLOPS}, 0, Path(sys.argv[1]), Recipe(rows=4, checkpoint_s=0))"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = torch.load(out / "checkpoint.pt", weights_only=True)["at"]
    assert at["step"] < whole.rows[-1].step  # it was cut short indeed
    resumed = train(TASK, PARAMS, FLOPS, 0, out, RECIPE)
    assert same(whole.decoder, resumed.decoder)
    kept = ("step", "tokens", "targets", "flops", "loss", "rate")
    pick = lambda rows: [[dataclasses.asdict(r)[k] for k in kept] for r in rows]  # noqa: E731
    assert pick(whole.rows) == pick(resumed.rows)


def test_another_training_in_the_folder_is_refused_and_kept(tmp_path):
    train(TASK, PARAMS, 1e7, 0, tmp_path, RECIPE)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(
        ValueError, match=r"other settings \(seed 0 there and 1 here, rate 0.004 there and 0.001 here\)"
    ):
        train(TASK, PARAMS, 1e7, 1, tmp_path, dataclasses.replace(RECIPE, rate=1e-3))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    with pytest.raises(ValueError, match="must be positive"):
        train(TASK, PARAMS, 0, 0, tmp_path / "none", RECIPE)
    assert not (tmp_path / "none").exists()


def test_a_broken_checkpoint_is_refused_and_kept(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is no checkpoint, or a broken one; remove it"):
        train(TASK, PARAMS, 1e7, 0, tmp_path, RECIPE)
    assert path.read_bytes() == b"not a checkpoint"


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    training = Training(TASK, PARAMS, FLOPS, 0, tmp_path, RECIPE)
    steps = training.run()
    next(steps), next(steps)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # bytes a file may have: a checkpoint has more
    try:
        with pytest.raises(OSError, match="File too large"):
            next(steps)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert after.keys() == before.keys() == {"checkpoint.pt", "curve.jsonl"}
    assert after["checkpoint.pt"] == before["checkpoint.pt"]
    resumed = train(TASK, PARAMS, FLOPS, 0, tmp_path, RECIPE)
    assert same(resumed.decoder, train(TASK, PARAMS, FLOPS, 0, tmp_path / "whole", RECIPE).decoder)


def test_groups_of_equal_length_change_the_padding_and_not_the_sum(tmp_path):
    one, four = (
        next(Training(TASK, PARAMS, FLOPS, 0, tmp_path / str(n), Recipe(rows=16, groups=n)).run()) for n in (1, 4)
    )
    assert four.loss == pytest.approx(one.loss, rel=1e-5)
    assert four.targets == one.targets
    assert four.tokens < one.tokens
    assert four.flops < one.flops


def test_the_loss_is_on_the_response_only(tmp_path):
    decoder = train(TASK, PARAMS, 1e6, 0, tmp_path, RECIPE).decoder
    problems = [TASK.problem("train", 0, 2), TASK.problem("train", 1, 8)]
    inputs, positions, targets = batch(decoder, problems)
    a = decoder.architecture
    for row, p in enumerate(problems):
        text = p.prompt + p.response
        assert a.decode(inputs[row].tolist()) == text[:-1]
        assert a.decode(targets[row].tolist()) == p.response
        first = int((targets[row] != PAD).argmax())
        assert inputs[row, first] == a.encode(":")[0]
        assert positions[row, first + 1] == a.prompt_room
