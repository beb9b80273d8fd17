"""A folded norm is gone and its function is still there; what cannot be folded stays."""

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import first, imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.compress.clip import Clip  # noqa: E402
from isoflop.method.compress.fold import Fold  # noqa: E402
from isoflop.method.compress.low_rank import LowRank  # noqa: E402
from isoflop.method.shrink import Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


def task(net, *shape):
    """The net with norms that have seen something, on random inputs."""
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
            for x in (m.running_mean, m.weight.data, m.bias.data):
                x.normal_()
            m.running_var.uniform_(0.5, 2)
    return imitating(net, torch.randn(8, *shape))


def norms(net):
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def moved(net, x):
    with torch.no_grad(), OpMeter() as ops:
        net(x)
    return ops.bytes_moved


class Shared(nn.Module):
    """One layer that a norm alone reads, one that is added to its norm, and one that is called twice."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(6) for _ in range(3))

    def forward(self, x):
        x = self.norms[0](self.layers[0](x))
        h = self.layers[1](x)
        x = self.norms[1](h) + h
        return self.norms[2](self.layers[2](self.layers[2](x)))


def test_it_keeps_the_contract():
    check_method(Fold(), task(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), 1, 6, 6))


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Linear(6, 4), nn.BatchNorm1d(4), (6,)),
        (nn.Conv1d(2, 4, 3, bias=False), nn.BatchNorm1d(4), (2, 8)),
        (nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), (4, 6, 6)),
        (nn.ConvTranspose2d(2, 4, 3), nn.BatchNorm2d(4), (2, 6, 6)),
    ],
)
def test_outputs_stay_and_the_norm_costs_nothing_any_more(layer, norm, shape):
    whole = task(nn.Sequential(layer, norm, nn.ReLU()), *shape)
    x, smaller = whole.workload.dev.inputs[0], first(Fold(), whole).module
    assert torch.allclose(smaller(x), whole.module(x), atol=1e-5)
    assert (norms(whole.module), norms(smaller)) == (1, 0)
    assert moved(smaller, x) < moved(whole.module, x)


def test_what_is_read_by_others_too_stays_as_it_was():
    whole = task(Shared(), 6)
    x, smaller = whole.workload.dev.inputs[0], first(Fold(), whole)
    assert smaller.note == "1 batch norms folded into the layers before them"
    assert isinstance(smaller.module.norms[0], nn.Identity)
    assert norms(smaller.module) == 2
    assert torch.allclose(smaller.module(x), whole.module(x), atol=1e-5)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        nn.Linear(6, 4),
    ],
)
def test_where_no_norm_reads_a_layer_it_refuses(net):
    with pytest.raises(Refused, match="no batch norm that alone reads"):
        run(Fold(), task(net, 6))


@pytest.mark.parametrize("method", [Fold(), LowRank(steps=0)])
def test_layers_whose_weights_are_packed_are_refused_and_do_not_fail(method):
    net = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 16))
    packed = first(Clip(bits=(4,)), task(net, 16)).module
    with pytest.raises(Refused):
        first(method, task(packed, 16))
