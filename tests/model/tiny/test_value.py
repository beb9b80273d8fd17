import numpy as np
import pytest
import torch

from isoflop.model.base import ModelError
from isoflop.model.tiny.train import Recipe, train
from isoflop.model.tiny.value import calibration, fit_values, open_values, ship_values
from isoflop.model.tiny.weights import names, write
from isoflop.task.generate import generator

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    task = generator("countdown")
    return train(task, 9e3, 2e9, 0, tmp_path_factory.mktemp("t"), Recipe(rows=16)).decoder, task


def test_calibration_of_known_values():
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    right = (rng.random(40_000) < p).astype(float)
    honest = calibration(p, right)
    assert honest.expected_error < 0.02
    assert honest.brier == pytest.approx(1 / 6, abs=0.01)  # the mean of p(1-p)
    assert honest.auc == pytest.approx(5 / 6, abs=0.01)
    blind = calibration(np.full(40_000, 0.5), right)
    assert blind.auc == pytest.approx(0.5)
    assert blind.brier == pytest.approx(0.25)
    assert calibration(1 - p, right).expected_error > 0.3
    assert np.isnan(calibration(p[:4], np.ones(4)).auc)


def test_values_know_more_than_the_base_rate(network):
    decoder, task = network
    value, found = fit_values(decoder, task, problems=60, samples=4)
    assert found.states > 50
    assert 0 <= found.base_rate < 1
    assert found.expected_error < 0.2
    texts = ["20+30=50 ", "20+30=50 \n", "20*30=60 50-10=40 "]
    values, cost = value.of("20 30>50:", texts)
    assert [len(v) for v in values] == [1, 2, 2]
    assert all(0 < x < 1 for v in values for x in v)
    assert value.of("20 30>50:", texts[:1])[0][0] == pytest.approx(values[0], abs=1e-5)
    shape = decoder.architecture.shape
    assert cost.tokens_in == sum(9 + len(t) for t in texts)
    assert cost.flops > sum(shape.flops(9 + len(t), logits=0) for t in texts)


def test_a_fit_is_the_same_with_the_same_seed(network):
    decoder, task = network
    (a, first), (b, second) = (fit_values(decoder, task, problems=8, samples=4, seed=3) for _ in range(2))
    assert first == second or first.auc != first.auc
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_shipped_head_comes_with_its_calibration_and_is_guarded(network, tmp_path):
    decoder, task = network
    name = write(decoder, task.name, tmp_path)
    (tmp_path / f"{name}.md").write_text("# the card\n")
    with pytest.raises(ModelError, match="missing"):
        open_values(name, tmp_path)
    for _ in range(2):  # shipping again replaces the section
        found = ship_values(name, task, tmp_path, problems=10)
    assert names(tmp_path) == [name]
    card = (tmp_path / f"{name}.md").read_text()
    assert card.startswith("# the card\n\n## Process reward\n")
    assert card.count("## Process reward") == 1
    assert f"Brier score {found.brier:.4f}" in card
    assert open_values(name, tmp_path).of("20 30>50:", ["20+30=50 "])[0][0][0] > 0
    path = tmp_path / f"{name}.value.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="corrupt"):
        open_values(name, tmp_path)
