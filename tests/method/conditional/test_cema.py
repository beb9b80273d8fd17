"""A shifted stream: the edge's norms follow a teacher, and few inputs are uploaded."""

import math

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.method.conditional.cema import Cema, entropy, norm_parameters  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, K = 8, 4
LITTLE = f"{__name__}:little"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Edge(nn.Module):
    """Classes along K axes; thrown off by a shift, which a norm can take away."""

    def __init__(self, wide):
        super().__init__()
        self.norm, self.work = nn.BatchNorm1d(D), nn.Linear(D, 64 if wide else 2)
        nn.init.zeros_(self.work.weight)
        nn.init.zeros_(self.work.bias)

    def forward(self, x):
        return 4 * self.norm(x)[:, :K] + 0 * self.work(x)[:, :1]


class Robust(Edge):
    """Knows of the shift in the last input."""

    def forward(self, x):
        return 6 * (x[:, :K] - x[:, -1:] * torch.linspace(-1, 1, K)) + 0 * self.work(x)[:, :1]


def little():
    return Edge(False).eval()


def task(n=600, shift=1.5):
    y = torch.randint(K, (n,))
    x = 0.3 * torch.randn(n, D)
    x[torch.arange(n), y] += 1
    x[:, :K] += shift * torch.linspace(-1, 1, K)
    x[:, -1] = shift
    parts = [Data((x[i : i + n // 3],), y[i : i + n // 3]) for i in range(0, n, n // 3)]
    parts[0] = Data(parts[0].inputs)  # the stream has no labels
    return Robust(True).eval(), Workload("shifted", *parts, score=lambda o, t: (o.argmax(1) == t).float(), batch=20)


def run(method, big, work):
    problem = Original(big, work, Meter(), big)
    return list(method.run(problem, problem.meter, np.random.default_rng(0))), problem.meter


def test_it_keeps_the_contract():
    big, work = task(120)
    check_method(Cema(LITTLE, steps=1), Shrinking(big, work))


def test_it_recovers_from_a_shift_with_few_uploads():
    big, work = task()
    free = Original(big, work, Meter(), big)
    thrown_off = free.quality(little(), work.dev)
    (_, chosen), meter = run(Cema(LITTLE), big, work)
    (_, everything), meter_all = run(Cema(LITTLE, low=0.0, high=1.0, shrinking=False), big, work)
    quality = free.quality(chosen.module, work.dev)
    assert thrown_off < 0.5 < 0.75 < quality
    assert quality >= free.quality(everything.module, work.dev) - 0.05
    share = int(chosen.note.split("%")[0].split()[-1])
    assert share <= 50
    assert everything.note.endswith("100% uploaded")
    assert meter.spent.flops < meter_all.spent.flops
    assert {
        name
        for name, p in chosen.module.named_parameters()
        if not torch.equal(p, dict(little().named_parameters())[name])
    } <= {
        "norm.weight",
        "norm.bias",
    }


def test_uploads_are_charged_as_bytes():
    big, work = task(60)
    problem = Original(big, work, Meter(), big)
    sent = []

    class Watching(Meter):
        def admit(self, estimate, *, shared=False):
            if estimate.flops == 0 and estimate.bytes_moved:
                sent.append(estimate.bytes_moved)
            return super().admit(estimate, shared=shared)

    problem.meter = Watching()
    list(Cema(LITTLE, low=0.0, high=1.0, shrinking=False).run(problem, problem.meter, np.random.default_rng(0)))
    assert sent == [20 * D * 4, 2 * D * 4]  # one batch up, its norm down


def test_entropy_is_that_of_the_answer():
    assert entropy(torch.zeros(1, 5)).item() == pytest.approx(math.log(5))
    assert entropy(torch.tensor([[99.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_without_norms_or_classes_it_is_refused():
    with pytest.raises(Refused, match="no norm"):
        norm_parameters(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="low < high"):
        Cema(low=0.5, high=0.4)
