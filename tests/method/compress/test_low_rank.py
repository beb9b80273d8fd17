"""What is of low rank is found to be, at no loss; errors are the energy that was left out."""

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import flops, imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.low_rank import LowRank  # noqa: E402
from isoflop.method.shrink import Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


def test_it_keeps_the_contract():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    check_method(LowRank(kept_fraction=(0.7,), steps=1, batch=4), imitating(net, torch.randn(16, 8)))


def test_layers_of_low_rank_are_split_at_no_loss_and_others_are_left():
    low, full = nn.Linear(32, 32), nn.Linear(32, 32)
    low.weight.data = torch.randn(32, 4) @ torch.randn(4, 32)
    full.weight.data = torch.linalg.qr(torch.randn(32, 32))[0]
    net, x = nn.Sequential(low, nn.Tanh(), full), torch.randn(256, 32)
    (smaller,) = run(LowRank(kept_fraction=(0.63,), steps=0), imitating(net, x))
    assert smaller.module[0][0].out_features == 4
    assert isinstance(smaller.module[2], nn.Linear)
    assert torch.allclose(smaller.module(x), net(x), atol=1e-3)
    assert flops(smaller.module, x) == pytest.approx(0.625 * flops(net, x))
    assert stored_bytes(smaller.module) < 0.65 * stored_bytes(net)


def test_the_error_is_the_energy_left_out_of_the_outputs_and_less_than_by_the_weights_alone():
    layer = nn.Linear(32, 24, bias=False)
    x = torch.randn(512, 32) * torch.logspace(0, -2, 32)
    (smaller,) = run(LowRank(kept_fraction=(0.4,), steps=0), imitating(nn.Sequential(layer), x))
    rank = smaller.module[0][0].out_features
    with torch.no_grad():
        error = ((smaller.module(x) - layer(x)) ** 2).sum()
        left_out = torch.linalg.svdvals(layer(x))[rank:].square().sum()
        u, s, v = torch.linalg.svd(layer.weight, full_matrices=False)
        plain = ((x @ ((u[:, :rank] * s[:rank]) @ v[:rank]).T - layer(x)) ** 2).sum()
    assert error == pytest.approx(left_out.item(), rel=0.05)
    assert error < 0.5 * plain


def test_convolutions_are_split_too():
    net = nn.Sequential(nn.Conv2d(4, 16, 3, 2, 1), nn.ReLU(), nn.Flatten())
    net[0].weight.data = (torch.randn(16, 2) @ torch.randn(2, 36)).view(16, 4, 3, 3)
    x = torch.randn(8, 4, 8, 8)
    (smaller,) = run(LowRank(kept_fraction=(0.2,), steps=0), imitating(net, x))
    assert torch.allclose(smaller.module(x), net(x), atol=1e-3)
    assert flops(smaller.module, x) < 0.25 * flops(net, x)


def test_a_transformer_computes_less_although_its_fused_path_would_not():
    net = nn.TransformerEncoderLayer(16, 4, 64, batch_first=True).eval()
    x = torch.randn(8, 5, 16)
    (smaller,) = run(LowRank(kept_fraction=(0.5,), steps=0), imitating(net, x))
    assert flops(smaller.module, x) < flops(net, x)


def test_what_cannot_be_smaller_is_refused():
    for net in (nn.LayerNorm(8), nn.Linear(8, 1)):
        with pytest.raises(Refused, match="two thinner"):
            run(LowRank(), imitating(net, torch.randn(4, 8)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        LowRank(kept_fraction=(1.0,))
