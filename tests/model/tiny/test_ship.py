import json

import pytest
import torch

from isoflop.model.tiny.ship import evaluate, ship
from isoflop.model.tiny.train import Recipe, mean_loss, train
from isoflop.model.tiny.weights import names, read
from isoflop.task.generate import generator

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    task = generator("automata-direct")
    return train(task, 9e3, 3e8, 0, tmp_path_factory.mktemp("training"), Recipe(rows=8)), task


def test_a_shipped_model_comes_with_its_curve_and_a_card_of_its_own_figures(trained, tmp_path):
    trained, task = trained
    name = ship(trained, task, tmp_path, problems=20)
    assert names(tmp_path) == [name] == ["automata-direct-9k"]
    decoder, _ = read(name, tmp_path)
    card = (tmp_path / f"{name}.md").read_text()
    for p in evaluate(decoder, task, 20):
        never = "" if p.trained else " (never trained)"
        assert f"| {p.difficulty}{never} | {p.sampled:.1%} | {p.greedy:.1%} |" in card
    assert f"{trained.rows[-1].flops:.3g} FLOPs" in card
    assert f"{mean_loss(decoder, [task.problem('dev', i) for i in range(20)]):.4f} on the split dev" in card
    command = "isoflop train tiny --task automata-direct --params 9328 --flops 3e+08 --seed 0 --rows 8"
    assert command in card
    rows = [json.loads(line) for line in (tmp_path / f"{name}.curve.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [row.loss for row in trained.rows]


def test_the_share_of_right_answers_is_that_of_the_network(trained):
    trained, task = trained
    rows = evaluate(trained.decoder, task, 40)
    assert [p.difficulty for p in rows] == [*task.trained, *task.beyond]
    assert [p.trained for p in rows] == [True] * 6 + [False] * 2
    assert any(0 < p.sampled < 1 for p in rows)  # five answers, so guessing is right now and then
    with torch.no_grad():
        trained.decoder.head.weight.zero_()  # every character as likely
    assert max(p.sampled for p in evaluate(trained.decoder, task, 40)) < 0.3
