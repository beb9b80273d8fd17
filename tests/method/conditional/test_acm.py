"""Gated computation is the slice it says it is, learners add up to the layer, and budgets are held."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import FREE, Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.acm import Acm, AdaptiveModule, feed_forwards, split  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload, is_conditional  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, H, T = 6, 16, 5


@pytest.fixture(autouse=True)
def _still():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def feed_forward(act=nn.GELU):
    return nn.Sequential(nn.Linear(D, H), act(), nn.Linear(H, D))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(feed_forward() for _ in range(2))
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x.mean(1))


def workload(net):
    """Tokens of two kinds, of which one moves far fewer hidden units."""
    data = []
    for _ in range(3):
        x = torch.randn(24, T, D) * torch.tensor([0.1, 2.0])[torch.randint(2, (24, T, 1))]
        with torch.no_grad():
            data.append(Data((x,), net(x)))
    return Workload("tokens", *data, score=lambda out, t: -((out - t) ** 2).mean(1), batch=8)


def test_all_learners_together_are_the_layer():
    layer, x = feed_forward(), torch.randn(7, D)
    module = split(layer, 4)
    assert torch.allclose(module.slices(x)[-1], layer(x), atol=1e-6)
    assert torch.allclose(module.taking(x, torch.full((7,), 4)), layer(x), atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_gated_computation_is_its_slice(count):
    """The published code computes one learner fewer than was chosen; ours must not."""
    module, x = split(feed_forward(), 4), torch.randn(7, D)
    assert torch.allclose(module.taking(x, torch.full((7,), count)), module.slices(x)[count - 1], atol=1e-6)


def test_tokens_take_what_their_gate_says_whatever_is_beside_them():
    module, x = split(feed_forward(), 4), torch.randn(3, 9, D)
    with torch.no_grad():
        module.gate[2].weight.mul_(20)
        counts = module.gate(x.flatten(0, 1)).argmax(1) + 1
        assert len(counts.unique()) > 1
        slices = module.slices(x.flatten(0, 1))
        by_hand = torch.stack([slices[c - 1, i] for i, c in enumerate(counts)]).view(3, 9, D)
        assert torch.allclose(module(x), by_hand, atol=1e-6)
        alone = torch.cat([module(x[i : i + 1]) for i in range(3)])
        assert torch.allclose(module(x), alone, atol=1e-6)


def test_flops_follow_the_learners_taken():
    module, x = split(feed_forward(), 4), torch.randn(10, D)
    spent = []
    for count in (1, 2, 4):
        with OpMeter() as ops, torch.no_grad():
            module.taking(x, torch.full((10,), count))
        spent.append(ops.flops)
    assert spent == [2 * 10 * 2 * D * H // 4 * count for count in (1, 2, 4)]


def test_it_keeps_the_contract():
    net = Net().eval()
    check_method(Acm(budgets=(0.75, 0.5), steps=4, batch=4), Shrinking(net, workload(net)))


def test_budgets_are_held_and_buy_quality():
    net = Net().eval()
    task = Shrinking(net, workload(net))
    meter = Meter()
    method = Acm(budgets=(0.75, 0.4), steps=150, batch=12, rate=3e-3, price=30.0)
    shrunk = list(method.run(task.open("tokens", meter, None, 0), meter, np.random.default_rng(0)))
    assert meter.spent.flops > 0
    taken, quality = [], []
    for answer in shrunk:
        assert is_conditional(answer.module)
        seen = []
        for module in answer.module.modules():
            if isinstance(module, AdaptiveModule):
                module.gate.register_forward_hook(lambda _, __, out, seen=seen: seen.append((out.argmax(1) + 1) / 4))
        quality.append(task.score("tokens", answer))
        taken.append(torch.cat(seen).mean().item())
    assert taken == [pytest.approx(0.75, abs=0.12), pytest.approx(0.4, abs=0.12)]
    spread = task.workload.dev.targets.var().item()
    assert quality[0] > -0.1 * spread
    assert quality[1] > -0.5 * spread


def test_what_it_yields_can_be_kept():
    net = Net().eval()
    task = Shrinking(net, workload(net))
    shrunk = next(Acm(steps=2, batch=2).run(task.open("tokens", Meter(), None, 0), Meter(), np.random.default_rng(0)))
    file = io.BytesIO()
    torch.save(shrunk.module, file)
    file.seek(0)
    x = torch.randn(3, T, D)
    with torch.no_grad():
        assert torch.equal(torch.load(file, weights_only=False)(x), shrunk.module(x))


def test_where_there_is_no_feed_forward_network_it_refuses():
    net, meter = nn.Sequential(nn.Linear(D, D), nn.ReLU()), Meter()
    data = Data((torch.randn(4, D),), torch.zeros(4, D))
    work = Workload("plain", data, data, data, lambda out, t: -((out - t) ** 2).mean(1))
    with pytest.raises(Refused, match="no feed-forward network"):
        next(Acm().run(Original(net, work, meter, net), meter, np.random.default_rng(0)))
    assert meter.spent == FREE
    assert feed_forwards(Net(), 4) == ["layers.0", "layers.1"]


def test_budgets_below_one_learner_make_no_sense():
    with pytest.raises(ValueError, match="budgets within"):
        Acm(learners=4, budgets=(0.1,))
