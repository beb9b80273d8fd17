"""A converter makes hard inputs easy, and the rest of the model is not needed."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.cbnet import Cbnet, easy_rows  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload, digest  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, K, WIDE = 12, 3, 256


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Early(nn.Module):
    """A first block that reads easy inputs and lets nothing through that hard ones need, and wide ones after it."""

    def __init__(self):
        super().__init__()
        first, wide, last = nn.Linear(D, D), nn.Linear(D, WIDE), nn.Linear(WIDE, D)
        for layer in (first, wide, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            first.weight.copy_(torch.eye(D))
            first.weight[K:] = 0  # what tells of the disturbance does not pass the first exit
            wide.weight[:D] = torch.eye(D)
            last.weight[:, :D] = 5 * torch.eye(D)
        self.blocks = nn.Sequential(first, wide, last)

    def forward(self, x):
        return self.blocks(x)[:, :K] * 1.0


def task(n=900):
    y = torch.randint(K, (n,))
    x = torch.zeros(n, D)
    x[torch.arange(n), y] = 1
    noise = 2 * functional.one_hot((y + 1) % K, K) * (torch.rand(n, 1) < 0.6)
    x[:, :K] += noise
    x[:, K : 2 * K] = noise
    x += 0.02 * torch.randn(n, D)
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    return Early(), Workload(
        "late", *parts, score=lambda o, t: (o.argmax(1) == t).float(), loss=functional.cross_entropy
    )


def run(method, net, work):
    problem = Original(net, work, Meter(), net)
    return list(method.run(problem, problem.meter, np.random.default_rng(0)))


@pytest.mark.parametrize("form", ["convert", "adapt"])
def test_it_keeps_the_contract(form):
    net, work = task(60)
    check_method(Cbnet(form, width=4, exits=1, steps=2), Shrinking(net, work))


@pytest.mark.parametrize("form", ["convert", "adapt"])
def test_hard_inputs_become_easy_at_the_same_low_cost_for_all(form):
    net, work = task()
    before = digest(net)
    point = run(Cbnet(form, width=16, exits=2, steps=300), net, work)[-1]
    free = Original(net, work, Meter(), net)
    assert free.quality(point.module.model, work.dev) < 0.85  # truncated, without the converter
    assert free.quality(point.module, work.dev) > 0.95
    costs = set()
    for row in work.dev.rows(slice(0, 20)).batches(1):
        with OpMeter() as ops, torch.no_grad():
            point.module(*row.inputs)
        costs.add(ops.flops)
    assert costs == {2 * (D * 16 * 2 + D * D + D * K)}
    assert digest(net) == before


def test_easy_rows_are_right_and_sure():
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    answers = torch.tensor([[9.0, 0], [1, 0], [5, 0], [0, 5], [3, 0], [2, 0]])
    assert easy_rows(answers, labels) == {0: [0], 1: [5]}  # of class 1 nothing is right: the least wrong


def test_what_cannot_be_converted_is_refused():
    net, work = task(30)
    data = Data((torch.zeros(9, 5, dtype=torch.long),), torch.zeros(9, 2))
    with pytest.raises(Refused, match=r"torch.int64"):
        run(Cbnet(), nn.Embedding(3, 2), Workload("tokens", data, data, data, score=work.score))
    data = Data((torch.zeros(9, D),), torch.zeros(9, K))
    with pytest.raises(Refused, match="needs class labels"):
        run(Cbnet("convert"), net, Workload("numbers", data, data, data, score=work.score))
