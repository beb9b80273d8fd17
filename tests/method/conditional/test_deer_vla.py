"""Where the answer settles early, a regressor is left early, at the budget asked for."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.method.conditional.budget import leaves_at  # noqa: E402
from isoflop.method.conditional.deer_vla import DeerVla  # noqa: E402
from isoflop.method.shrink import Data, Original, Shrinking, Workload, digest  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D = 6


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Iteration(nn.Module):
    """One step of x <- a + b cos(x), which has settled at once where b is small; the answer is all of the state."""

    def __init__(self):
        super().__init__()
        self.work = nn.Linear(D, D)  # something to spend on

    def forward(self, state):
        a, b, x = state[..., :2], state[..., 2:4], state[..., 4:]
        return torch.cat([a, b, a + b * torch.cos(x) + 0 * self.work(state)[..., :2]], -1)


class Solver(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.Sequential(*(Iteration() for _ in range(7)))

    def forward(self, x):
        return self.steps(x)


def task(n):
    settled = torch.rand(n, 1) < 0.5
    x = torch.randn(n, D)
    x[:, 2:4] = torch.where(settled, 0.02, 0.9)
    net = Solver()
    with torch.no_grad():
        y = net(x)
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    return net, Workload("solve", *parts, score=lambda o, t: -((o - t) ** 2).mean(1), batch=50)


@pytest.mark.parametrize("trunk", [False, True])
def test_it_keeps_the_contract(trunk):
    net, work = task(90)
    check_method(DeerVla(budgets=(0.9, 0.8), steps=3, exits=3, trained_trunk=trunk), Shrinking(net, work))


@pytest.mark.parametrize("trunk", [False, True])
def test_the_trunk_is_trained_where_it_is_to_be(trunk):
    _, work = task(90)
    net = nn.Sequential(*(nn.Linear(D, D) for _ in range(5)))
    problem, before = Original(net, work, Meter(), net), digest(net)
    method = DeerVla(budgets=(0.9,), steps=3, exits=3, trained_trunk=trunk)
    (found,) = method.run(problem, problem.meter, np.random.default_rng(0))
    assert digest(net) == before
    assert (digest(found.module.trunk) != before) == trunk


@pytest.mark.parametrize("shares", ["exponential", "gauss", "gamma"])
def test_settled_inputs_leave_early_at_the_budget_asked_for(shares):
    net, work = task(3000)
    problem = Original(net, work, Meter(), net)
    points = list(
        DeerVla(budgets=(1.0, 0.85), shares=shares, steps=200).run(problem, problem.meter, np.random.default_rng(0))
    )
    for budget, point in zip((1.0, 0.85), points, strict=True):
        with torch.no_grad():
            scores = point.module.every(*work.dev.inputs)[0].numpy()
        at = leaves_at(scores, point.module.thresholds.numpy())
        costs = np.array(point.module.costs(work.dev.rows([0]).inputs))
        assert at.min() >= 1  # the first exit has nothing to compare with
        whole = 7 * 2 * D * D
        assert costs[at].mean() / whole == pytest.approx(budget, rel=0.05)
        settled = work.dev.inputs[0][:, 2] < 0.1
        assert at[settled].mean() < at[~settled].mean() - 0.5
