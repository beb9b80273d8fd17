"""Baselines at equal cost are what they say."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.claim.early.compare import both, left_at, left_with, made, point, smaller_reader  # noqa: E402
from isoflop.method.compress.keep import Keep  # noqa: E402
from isoflop.method.conditional.blocks import find_chain  # noqa: E402
from isoflop.method.conditional.exits import Confidence, EarlyExit, build_heads  # noqa: E402
from isoflop.method.shrink import Data, Workload  # noqa: E402

D, K, N = 6, 3, 200


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def task():
    net = nn.Sequential(*(nn.Sequential(nn.Linear(D, D), nn.Tanh()) for _ in range(3)), nn.Linear(D, K))
    x = torch.randn(N, D)
    with torch.no_grad():
        y = net(x).argmax(1)
    data = Data((x,), y)
    return net, Workload("toy", data, data, data, score=lambda o, t: (o.argmax(1) == t).float())


def test_leaving_by_lot_is_the_mean_of_the_exits_by_their_shares():
    net, work = task()
    chain = find_chain(net, (work.dev.inputs[0][:1],))
    heads = build_heads(net, chain, [0, 1], work.dev.inputs)
    with torch.no_grad():
        for head in heads:
            for p in head.parameters():
                p.normal_()
    model = EarlyExit(net, [chain.blocks[0], chain.blocks[1]], heads, Confidence(False), [0.5, 0.5])
    ruled, lot = left_at(model, work, work.dev)
    alone = point(model, work, work.dev)
    assert ruled.quality == pytest.approx(alone.quality)
    assert ruled.flops == lot.flops == pytest.approx(alone.flops)
    with torch.no_grad():
        _, exits, last = model.every(*work.dev.inputs)
    accuracy = [work.scores(out, work.dev).mean() for out in (*exits, last)]
    assert min(accuracy) <= lot.quality <= max(accuracy)
    shares = left_with(model, work, work.dev)[2]
    assert shares.sum() == pytest.approx(1)
    assert shares @ accuracy == pytest.approx(lot.quality)


def test_sets_of_examples_are_joined():
    _, work = task()
    joined = both(work.dev.rows([0, 1]), work.dev.rows([5]))
    assert torch.equal(joined.inputs[0], work.dev.inputs[0][[0, 1, 5]])
    assert torch.equal(joined.targets, work.dev.targets[[0, 1, 5]])


def test_what_a_method_makes():
    net, work = task()
    found, once = made(Keep(), net, work)
    assert len(found) == 1
    assert once == 0


def test_a_narrower_network_of_digits_takes_its_share():
    data = Data((torch.rand(60, 1, 28, 28),), torch.randint(10, (60,)))
    work = Workload("noise", data, data, data, score=lambda o, t: (o.argmax(1) == t).float())
    spent = [point(smaller_reader(width, data, 1.0), work, data, 1).flops for width in (1.0, 0.5)]
    assert spent[1] / spent[0] == pytest.approx(0.25, abs=0.05)
    assert np.isfinite(spent).all()
