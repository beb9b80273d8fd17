"""One trunk and several gates: another price of compute changes the gate only."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.eco_m2f import EcoM2f, best_depths  # noqa: E402
from isoflop.method.shrink import Data, Original, Shrinking, Workload, digest  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, K = 10, 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Clearing(nn.Module):
    """Blocks that halve a disturbance; a mark tells at the first how strong it is."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(5))
        with torch.no_grad():
            for block in self.blocks:
                block.weight.copy_(torch.eye(D))
                for i in range(K):
                    block.weight[i, K + i] = 0.5  # the disturbance is taken off the class in halves
                    block.weight[K + i, K + i] = 0.5

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def loss(out, labels):
    return functional.cross_entropy(out[:, :K], labels)


def task(n=900):
    y = torch.randint(K, (n,))
    x = torch.zeros(n, D)
    x[torch.arange(n), y] = 1
    hard = torch.rand(n) < 0.5
    noise = torch.where(hard[:, None], 2.5 * functional.one_hot((y + 1) % K, K), torch.zeros(n, K))
    x[:, :K] += noise
    x[:, K : 2 * K] = -noise
    x[:, 8] = hard.float()
    x += 0.02 * torch.randn(n, D)
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    return Clearing(), Workload("clear", *parts, score=lambda o, t: (o[:, :K].argmax(1) == t).float(), loss=loss)


def run(method, net, work):
    problem = Original(net, work, Meter(), net)
    return list(method.run(problem, problem.meter, np.random.default_rng(0)))


@pytest.mark.parametrize("trunk", [False, True])
def test_it_keeps_the_contract(trunk):
    net, work = task(60)
    check_method(EcoM2f(betas=(0.1, 0.5), exits=2, steps=2, gate_steps=2, trained_trunk=trunk), Shrinking(net, work))


def test_best_depth_is_the_largest_of_quality_less_price():
    qualities, costs = np.array([[0.0, 1, 1], [1, 1, 1], [0, 0, 0], [0.2, 0.3, 1.0]]), np.array([0.2, 0.5, 1.0])
    assert best_depths(qualities, costs, 0.1).tolist() == [1, 0, 0, 2]
    assert best_depths(qualities, costs, 2.0).tolist() == [1, 0, 0, 0]


def test_a_new_price_trains_the_gate_only_and_buys_less_depth():
    net, work = task()
    before = digest(net)
    points = run(EcoM2f(betas=(0.1, 5.0), steps=0, gate_steps=150), net, work)
    assert {digest(p.module.trunk) for p in points} == {before}
    assert len({digest(p.module.heads) for p in points}) == 1
    assert len({digest(p.module.rule) for p in points}) == 2
    free = Original(net, work, Meter(), net)
    spent = []
    for point in points:
        costs = []
        for row in work.dev.rows(slice(0, 100)).batches(1):
            with OpMeter() as ops, torch.no_grad():
                point.module(*row.inputs)
            costs.append(ops.flops)
        spent.append(np.array(costs))
    hard = work.dev.inputs[0][:100, 8] > 0.5
    assert spent[0][hard].mean() == pytest.approx(1.4 * spent[0][~hard].mean(), rel=0.05)  # a block more, and the gate
    assert spent[1].mean() < spent[0].mean()
    assert free.quality(points[0].module, work.dev) > 0.95
    with torch.no_grad():
        alone = torch.cat([points[0].module(row[None]) for row in work.dev.inputs[0]])
        assert torch.allclose(points[0].module(*work.dev.inputs), alone, atol=1e-5)


@pytest.mark.parametrize("trunk", [False, True])
def test_exits_are_paid_once_and_each_further_price_pays_for_its_gate(trunk):
    net, work = task(300)
    before, problem = digest(net), Original(net, work, Meter(), net)
    method = EcoM2f(betas=(0.1, 0.5, 5.0), steps=30, gate_steps=20, trained_trunk=trunk)
    points, spent = [], []
    for point in method.run(problem, problem.meter, np.random.default_rng(0)):
        points.append(point.module)
        spent.append(problem.meter.spent.flops)
    assert digest(net) == before
    assert len({(digest(p.trunk), digest(p.heads)) for p in points}) == 1
    assert len({digest(p.rule) for p in points}) == 3
    assert (digest(points[0].trunk) != before) == trunk
    assert spent[2] - spent[1] == spent[1] - spent[0]  # a gate is trained, and tried on what it learnt from
    weight = 2 * D * 5  # FLOPs of a gate over four exits and the end
    assert spent[1] - spent[0] == 20 * 50 * 2 * weight + 50 * weight


def test_compute_cannot_be_free():
    with pytest.raises(ValueError, match="above 0"):
        EcoM2f(betas=(0.0,))
