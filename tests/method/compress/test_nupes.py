"""Power grids beat even ones on bell-shaped weights; learning beats both, and moves weights over the whole grid."""

import io
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from tests.method.compress.toys import error, imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.clip import Clip  # noqa: E402
from isoflop.method.compress.grid import Grid  # noqa: E402
from isoflop.method.compress.nupes import Nupes, PowerLevels, power_grid  # noqa: E402
from isoflop.method.shrink import Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


def task(net, inputs):
    return imitating(net, inputs, dev=inputs.flip(0) * 0.9)


def correlated(rows, columns):
    """Inputs of few directions, as activations are: what is lost in one weight another can make good."""
    return torch.randn(rows, columns // 4) @ torch.randn(columns // 4, columns) / 2


def bells(*widths):
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
        layers[-2].weight.data.normal_(0, a**-0.5)
    return nn.Sequential(*layers[:-1])


def test_it_keeps_the_contract():
    check_method(Nupes(bits=(3,), steps=1, batch=4), task(bells(8, 16), torch.randn(16, 8)))


@pytest.mark.parametrize("bits", [3, 4])
def test_a_power_below_one_suits_bells_and_beats_the_clipped_even_grid(bits):
    weight = torch.randn(64, 256)
    grid = power_grid(weight, bits)
    assert 0.5 < grid.exponent < 0.95
    even, power = (g.error(g.groups(weight)) for g in (Grid(bits), grid))
    assert power < 0.95 * even
    scanned = [Grid(bits, exponent=a).error(weight) for a in np.arange(0.3, 1.001, 0.05)]
    assert power < 1.02 * min(scanned)  # the golden section found the least


def test_even_weights_want_an_even_grid():
    assert power_grid(torch.rand(64, 256) * 2 - 1, 4).exponent > 0.9


def test_learning_beats_what_needs_no_data_at_the_same_bytes():
    whole = task(bells(32, 64, 8), correlated(512, 32))
    even, free, learned = (
        run(method, whole)[0]
        for method in (Clip(bits=(3,)), Nupes(bits=(3,), steps=0), Nupes(bits=(3,), steps=100, batch=64))
    )
    assert "learned" in learned.note
    errors = [error(s.module, whole) for s in (learned, free, even)]
    assert errors[0] < 0.5 * min(errors[1:])
    assert stored_bytes(learned.module) == stored_bytes(free.module)


def test_learned_weights_are_on_the_grid_and_some_moved_further_than_to_a_neighbour():
    net = bells(32, 32)
    whole = task(nn.Sequential(net[0]), correlated(256, 32))
    (learned,) = run(Nupes(bits=(4,), steps=200, rate=0.02, batch=64), whole)
    packed = learned.module[0].weights["weight"]
    weight, levels = packed() / packed.scale, packed.levels[0]
    distance = (weight[..., None] - levels).abs().amin(-1)
    assert distance.max() < 1e-5
    before = net[0].weight.detach() / packed.scale
    places = [(w[..., None] - levels).abs().argmin(-1) for w in (weight, before)]
    assert ((places[0] - places[1]).abs() > 1).any()


def test_convolutions_are_learned_and_other_layers_keep_the_search():
    net = nn.Sequential(nn.Conv1d(4, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.Flatten(), nn.LayerNorm(16 * 8))
    x = torch.randn(64, 4, 12) * torch.rand(4, 1) * 3
    whole = task(net, x)
    free, learned = (run(Nupes(bits=(3,), steps=n, batch=16), whole)[0] for n in (0, 100))
    assert error(learned.module, whole) < 0.8 * error(free.module, whole)
    attention = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    (small,) = run(Nupes(bits=(4,), steps=3, batch=4), task(attention, torch.randn(8, 3, 16)))
    file = io.BytesIO()
    torch.save(small.module, file)
    file.seek(0)
    x = torch.randn(2, 3, 16)
    with torch.no_grad():
        assert torch.equal(torch.load(file, weights_only=False)(x), small.module(x))


def test_the_exponent_has_a_finite_gradient_although_a_level_is_zero():
    levels = PowerLevels(4, 0.7)
    levels().pow(2).sum().backward()
    assert torch.isfinite(levels.exponent.grad)
    assert levels.exponent.grad != 0


def test_what_has_no_weights_is_refused():
    with pytest.raises(Refused, match="no linear"):
        run(Nupes(), task(nn.LayerNorm(8), torch.randn(4, 8)))
