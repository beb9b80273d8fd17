"""A big model is asked where that is worth it, and the mean cost is the one asked for."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.cascade import Cascade  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

K = 8
LITTLE = f"{__name__}:little"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Reader(nn.Module):
    """Reads a class off the first K inputs; a good one also takes away the disturbance that the last K tell of."""

    def __init__(self, good):
        super().__init__()
        self.good, self.work = good, nn.Linear(2 * K, 64 if good else K)
        nn.init.zeros_(self.work.weight)
        nn.init.zeros_(self.work.bias)

    def forward(self, x):
        seen = x[:, :K] - x[:, K:] if self.good else x[:, :K]
        return 6 * seen + 0 * self.work(x)[:, :K]


def little():
    return Reader(False)


def task(n=900, regression=False):
    """A third is easy; a third is disturbed, so that the little one is unsure; a third cannot be told by anybody."""
    y, kind = torch.randint(K, (n,)), torch.randint(3, (n,))
    x = torch.zeros(n, 2 * K)
    x[torch.arange(n), y] = 1
    at = kind == 1
    x[at, :K] += 1.1 * nn.functional.one_hot((y[at] + 3) % K, K)
    x[at, K:] += 1.1 * nn.functional.one_hot((y[at] + 3) % K, K)
    x[kind == 2, :K] = 0.1 * torch.randn(int((kind == 2).sum()), K)
    x[:, :K] += 0.05 * torch.randn(n, K)
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    return Reader(True), Workload("read", *parts, score=lambda o, t: (o.argmax(1) == t).float(), batch=50)


def run(method, big, work, teacher=None):
    problem = Original(big, work, Meter(), teacher or big)
    return list(method.run(problem, problem.meter, np.random.default_rng(0)))


def measured(module, data):
    spent = []
    for row in data.batches(1):
        with OpMeter() as ops, torch.no_grad():
            module(*row.inputs)
        spent.append(ops.flops)
    return np.array(spent)


@pytest.mark.parametrize("rule", ["confidence", "gain"])
def test_it_keeps_the_contract(rule):
    big, work = task(90)
    check_method(Cascade(rule, little=LITTLE, budgets=(0.6, 0.3), steps=3), Shrinking(big, work))


@pytest.mark.parametrize("rule", ["confidence", "gain"])
def test_the_mean_cost_is_the_budget_and_a_batch_changes_no_answer(rule):
    big, work = task()
    (point,) = run(Cascade(rule, LITTLE, budgets=(0.45,)), big, work)
    spent = measured(point.module, work.calibration)
    mapped = 2 * (K + 2) if rule == "gain" else 0
    both, one = 2 * 2 * K * (64 + K) + mapped, 2 * 2 * K * K + mapped
    assert set(spent) == {both, one}
    assert (spent.mean() - mapped) / (both - one) == pytest.approx(0.45, rel=0.02)
    with torch.no_grad():
        alone = torch.cat([point.module(row[None]) for row in work.dev.inputs[0]])
        assert torch.allclose(point.module(*work.dev.inputs), alone, atol=1e-5)


def test_foreseen_gain_beats_doubt_where_doubt_cannot_be_helped():
    big, work = task()
    free = Original(big, work, Meter(), big)
    found = {}
    for rule in ("confidence", "gain"):
        (point,) = run(Cascade(rule, LITTLE, budgets=(0.45,)), big, work)
        found[rule] = free.quality(point.module, work.test)
    assert found["gain"] >= free.quality(big, work.test) - 0.05
    assert found["gain"] > found["confidence"] + 0.05


def test_a_model_made_cheaper_before_is_the_little_one():
    big, work = task(300)
    (point,) = run(Cascade(budgets=(0.5,)), little(), work, teacher=big)
    assert point.module.big is big


def test_without_a_second_model_it_is_refused():
    big, work = task(90)
    with pytest.raises(Refused, match="no second model; name one"):
        run(Cascade(), big, work)
    with pytest.raises(Refused, match="it is not cheaper"):
        run(Cascade(little=LITTLE), little(), work)
    with pytest.raises(Refused, match="cannot be imported"):
        run(Cascade(little="nowhere.at.all:build"), big, work)
    with pytest.raises(Refused, match="not an nn.Module"):
        run(Cascade(little="builtins:str"), big, work)
    with pytest.raises(Refused, match="answer in shapes"):
        run(Cascade(little="torch.nn:Flatten"), big, work)
    with pytest.raises(Refused, match="costs 0.125x the big one"):
        run(Cascade(little=LITTLE, budgets=(0.1,)), big, work)
