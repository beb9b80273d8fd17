"""Exits on a model whose inputs are of known difficulty."""

import re

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.example import digits  # noqa: E402
from isoflop.method.conditional.budget import leaves_at  # noqa: E402
from isoflop.method.conditional.multi_exit import MultiExit  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload, digest  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, K = 12, 4
STEPS = 150


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Refining(nn.Module):
    """Class means, behind blocks that take more and more of a known disturbance away."""

    def __init__(self, width=D, out=K, depth=6):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, out)
        with torch.no_grad():
            for block in self.blocks:
                block.weight.copy_(torch.eye(width))
                block.weight[K:, K:] *= 0.5  # the disturbance halves at each block
                block.bias.zero_()
            self.head.weight.zero_()
            self.head.bias.zero_()
            self.head.weight[:, :out] = 8 * torch.eye(out)
            self.head.weight[:, K : K + out] = 8 * torch.eye(out)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x) * 1.0


def task(n=1500, regression=False):
    y = torch.randint(K, (n,))
    x = torch.zeros(n, D)
    x[torch.arange(n), y] = 1
    hard = torch.rand(n) < 0.4
    x[:, K:] = torch.randn(n, D - K) * torch.where(hard, 2.0, 0.05)[:, None]
    net = Refining()
    with torch.no_grad():
        targets = net(x) if regression else y
    parts = [Data((x[i : i + n // 3],), targets[i : i + n // 3]) for i in range(0, n, n // 3)]
    if regression:
        return net, Workload("refine", *parts, score=lambda o, t: -((o - t) ** 2).mean(1), batch=50)
    return net, Workload(
        "refine", *parts, score=lambda o, t: (o.argmax(1) == t).float(), loss=functional.cross_entropy, batch=50
    )


def run(method, net, work):
    problem = Original(net, work, Meter(), net)
    return list(method.run(problem, problem.meter, np.random.default_rng(0)))


def flops(module, data):
    spent = []
    for row in data.batches(1):
        with OpMeter() as ops, torch.no_grad():
            module(*row.inputs)
        spent.append(ops.flops)
    return np.array(spent)


def depths(module, data):
    """Where each example leaves, and what leaving there costs."""
    with torch.no_grad():
        scores = module.every(*data.inputs)[0]
    return leaves_at(scores.numpy(), module.thresholds.numpy()), np.array(module.costs(data.rows([0]).inputs))


@pytest.mark.parametrize("rule", ["confidence", "consistency", "similarity"])
def test_it_keeps_the_contract(rule):
    net, work = task(90)
    check_method(
        MultiExit(rule=rule, budgets=(0.95, 0.85), steps=3, exits=3, shares="exponential"), Shrinking(net, work)
    )


@pytest.mark.parametrize("shares", ["level", "exponential", "gauss", "gamma"])
def test_the_realised_mean_is_the_budget_and_easy_inputs_leave_first(shares):
    net, work = task(6000)
    before = digest(net)
    (found,) = run(MultiExit(budgets=(0.7,), steps=STEPS, shares=shares), net, work)
    total = flops(net, work.dev.rows(slice(0, 1)))[0]
    at, costs = depths(found.module, work.dev)
    assert costs[at[:40]].tolist() == flops(found.module, work.dev.rows(slice(0, 40))).tolist()
    assert costs[at].mean() / total == pytest.approx(0.7, rel=0.05)
    hard = work.dev.inputs[0][:, K:].abs().amax(1) > 0.3
    assert at[hard].mean() > at[~hard].mean()
    assert digest(net) == before


def test_equal_quality_at_half_the_flops():
    net, work = task()
    points = run(MultiExit(steps=STEPS, budgets=(0.9, 0.7, 0.5)), net, work)
    notes = [float(re.search(r"mean FLOPs ([\d.]+)x", p.note)[1]) for p in points]
    assert notes == sorted(notes, reverse=True)
    free = Original(net, work, Meter(), net)
    full = free.quality(net, work.test)
    assert full > 0.99
    assert free.quality(points[-1].module, work.test) >= full - 0.01
    at, costs = depths(points[-1].module, work.test)
    assert costs[at].mean() < 0.53 * flops(net, work.test.rows([0]))[0]


def test_without_targets_exits_imitate():
    net, work = task(regression=True)
    (found,) = run(MultiExit("consistency", budgets=(1.0,), shares="exponential", steps=STEPS), net, work)
    free = Original(net, work, Meter(), net)
    constant = -work.dev.targets.var(0).mean().item()
    assert free.quality(found.module, work.dev) > 0.05 * constant


def test_depth_is_cut_for_peak_and_memory():
    net, work = task(300)
    total = flops(net, work.dev.rows(slice(0, 1)))[0]
    for limit in ({"peak": 0.8}, {"memory": 0.9}):
        points = run(MultiExit(steps=5, budgets=(0.6,), **limit), net, work)
        assert flops(points[0].module, work.dev).max() <= limit.get("peak", 1) * total
        assert stored_bytes(points[0].module) <= limit.get("memory", 1) * stored_bytes(net)
    with pytest.raises(Refused, match="no exit keeps within peak=0.1"):
        run(MultiExit(steps=5, peak=0.1), net, work)


def test_training_the_trunk_changes_the_copy_only():
    net, work = task(300)
    before = digest(net)
    (found,) = run(MultiExit(steps=5, budgets=(0.7,), trained_trunk=True), net, work)
    assert digest(net) == before != digest(found.module.trunk)
    (frozen,) = run(MultiExit(steps=5, budgets=(0.7,)), net, work)
    assert digest(frozen.module.trunk) == before


def test_what_it_cannot_do_is_refused():
    net, work = task(300)
    single = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 1))
    with pytest.raises(Refused, match="single numbers"):
        run(MultiExit(), single, work)
    with pytest.raises(Refused, match="no budget of"):
        run(MultiExit(budgets=(0.01,), steps=2), net, work)
    with pytest.raises(Refused, match="too few"):
        run(MultiExit(), net, Workload("few", work.dev.rows([0]), work.dev, work.dev, work.score))
    with pytest.raises(ValueError, match="none of confidence"):
        MultiExit("luck")


def test_digits_are_read_as_well_at_a_third_of_the_flops():
    try:
        net, work = digits.build(), digits.workload()
    except ModelError as error:
        pytest.skip(str(error))
    (found,) = run(MultiExit(budgets=(0.33,), steps=150), net, work)
    both = Data(
        *((torch.cat([work.dev.inputs[0], work.test.inputs[0]]),), torch.cat([work.dev.targets, work.test.targets]))
    )
    at, costs = depths(found.module, both)
    whole = flops(net, both.rows([0]))[0]
    assert costs[at].mean() <= 0.34 * whole
    free = Original(net, work, Meter(), net)
    assert free.quality(found.module, both) >= free.quality(net, both) - 0.003  # one standard error of 2000 images
