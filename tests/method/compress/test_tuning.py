"""Models whose layers are packed are trained where a gradient gets through, and refused where none does."""

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.method.compress.ld_pruner import LdPruner  # noqa: E402
from isoflop.method.compress.linears import ByteWeights, NibbleWeights  # noqa: E402
from isoflop.method.compress.low_rank import LowRank  # noqa: E402
from isoflop.method.conditional.acm import Acm  # noqa: E402
from isoflop.method.shrink import Refused, backward  # noqa: E402

D = 32


@pytest.fixture(autouse=True)
def _still():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def in_int8(layer):
    small = torch.ao.nn.quantized.dynamic.Linear(D, D)
    small.set_weight_bias(torch.quantize_per_tensor(layer.weight.detach(), 0.01, 0, torch.qint8), layer.bias.detach())
    return small


def task(last):
    feed_forward = nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Linear(D, D))
    return imitating(nn.Sequential(feed_forward, nn.ReLU(), nn.Linear(D, D), last), torch.randn(40, D), batch=20)


def methods():
    return [
        LowRank((0.5,), steps=1),
        LdPruner(drops=1, operators=2, steps=1),
        Acm(budgets=(0.5,), steps=1),
    ]


@pytest.mark.parametrize("pack", [ByteWeights, NibbleWeights])
@pytest.mark.parametrize("method", methods(), ids=lambda m: m.label())
def test_what_comes_before_a_layer_of_packed_weights_is_trained(pack, method):
    if pack is NibbleWeights and not NibbleWeights.is_fast():
        pytest.skip("no int4 kernel for this processor")
    assert run(method, task(pack(nn.Linear(D, D))))


@pytest.mark.parametrize("pack", [ByteWeights, NibbleWeights])
def test_their_gradient_is_that_of_the_weights_they_hold(pack):
    if pack is NibbleWeights and not NibbleWeights.is_fast():
        pytest.skip("no int4 kernel for this processor")
    layer, x = pack(nn.Linear(D, D, bias=False)), torch.randn(4, D, requires_grad=True)
    with torch.no_grad():
        weight = layer(torch.eye(D))  # [K, N]
    made = layer(x)
    (gradient,) = torch.autograd.grad(made[:, 3].sum(), x)
    assert torch.allclose(gradient, weight[:, 3].expand(4, -1), atol=2e-3)
    with torch.no_grad():
        assert torch.allclose(made, layer(x), atol=0.05)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:.*autograd kernel was not registered")
def test_where_integers_let_no_gradient_through_it_is_refused():
    with pytest.raises(Refused, match="no gradient gets from the loss"):
        run(LowRank((0.5,), steps=1), task(in_int8(nn.Linear(D, D))))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_without_training_there_is_nothing_to_refuse():
    assert run(LowRank((0.5,), steps=0), task(in_int8(nn.Linear(D, D))))


def test_gradients_add_up_and_what_is_frozen_gets_none():
    a, b, frozen = (torch.ones(2, requires_grad=r) for r in (True, True, False))
    for _ in range(2):
        backward((a * frozen * 3).sum(), [a, b, frozen])
    assert a.grad.tolist() == [6.0, 6.0]
    assert b.grad is None
    assert frozen.grad is None
    with pytest.raises(Refused, match="or all is frozen"):
        backward(frozen.sum(), [frozen])
