"""Along a stream, the big model runs where the last answers say that it is needed."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.nano_drone import NanoDrone, OverFrames  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

T = 8
LITTLE = f"{__name__}:little"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Follower(nn.Module):
    """Reads a position in the first input; a good one takes away the shake in the second."""

    def __init__(self, good):
        super().__init__()
        self.good, self.work = good, nn.Linear(2, 64 if good else 4)
        nn.init.zeros_(self.work.weight)
        nn.init.zeros_(self.work.bias)

    def forward(self, x):
        return x[:, :1] - (x[:, 1:] if self.good else 0) + 0 * self.work(x)[:, :1]


def little():
    return OverFrames(Follower(False))


def task(n=240):
    """Clips that are calm or shaken; the little model errs in the shaken ones only, and its answers jump there."""
    position = torch.cumsum(0.02 * torch.randn(n, T), 1)
    shaken = torch.rand(n, 1) < 0.4
    shake = torch.randn(n, T) * torch.where(shaken, 1.0, 0.01)
    x, y = torch.stack([position + shake, shake], 2), position[..., None]
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    return OverFrames(Follower(True)), Workload(
        "follow", *parts, score=lambda o, t: -(o - t).abs().mean((1, 2)), batch=20
    )


def run(method, net, work):
    problem = Original(net, work, Meter(), net)
    return list(method.run(problem, problem.meter, np.random.default_rng(0)))


@pytest.mark.parametrize("policy", ["consistency", "auxiliary"])
def test_it_keeps_the_contract(policy):
    big, work = task(30)
    check_method(NanoDrone(policy, LITTLE, budgets=(0.6,), steps=2), Shrinking(big, work))


@pytest.mark.parametrize("policy", ["consistency", "auxiliary"])
def test_it_beats_the_choice_by_lot_and_costs_what_was_asked(policy):
    big, work = task(360)
    (point,) = run(NanoDrone(policy, LITTLE, budgets=(0.6,)), big, work)
    spent = []
    for row in work.dev.rows(slice(0, 60)).batches(1):
        with OpMeter() as ops, torch.no_grad():
            point.module(*row.inputs)
        spent.append(ops.flops)
    aux = 0 if policy == "consistency" else (T - 2) * 2 * (2 * 32 + 32)
    share = (np.mean(spent) - aux) / (T * 2 * 2 * 64)
    assert share == pytest.approx(0.6, abs=0.1)
    free = Original(big, work, Meter(), big)
    error = -free.quality(point.module, work.dev)
    by_lot = -free.quality(little(), work.dev) * (1 - share) / (1 - 4 / 64)
    assert error < 0.75 * by_lot
    with torch.no_grad():
        alone = torch.cat([point.module(clip[None]) for clip in work.dev.inputs[0]])
        assert torch.allclose(point.module(*work.dev.inputs), alone, atol=1e-5)


def test_what_is_no_stream_is_refused():
    _, work = task(60)
    with pytest.raises(Refused, match="a clip of three or more frames"):
        run(
            NanoDrone(little=LITTLE),
            nn.Linear(2, 1),
            Workload("flat", *[Data((torch.ones(9, 2),), torch.ones(9, 1))] * 3, score=work.score),
        )
    with pytest.raises(Refused, match="depends on the other frames"):
        run(NanoDrone(little=LITTLE), Centred(), work)
    with pytest.raises(Refused, match="as many answers"):
        run(NanoDrone(little=LITTLE), Mean(), work)


class Centred(nn.Module):
    def forward(self, x):
        return x[..., :1] - x[..., :1].mean(1, keepdim=True)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((1, 2), keepdim=False)[:, None]
