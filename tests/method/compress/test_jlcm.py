"""Codebooks fit what no grid fits, groups help where neurons differ, learning helps again, and the bytes are true."""

import io

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import error, imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.clip import Clip  # noqa: E402
from isoflop.method.compress.jlcm import Jlcm, _k_means, _soft, _sorted_groups  # noqa: E402
from isoflop.method.compress.packed import PackedTensor  # noqa: E402
from isoflop.method.shrink import Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


def task(net, inputs):
    return imitating(net, inputs, dev=inputs.flip(0) * 0.9)


def of_four_values(rows=32, columns=64):
    layer = nn.Linear(columns, rows)
    layer.weight.data = torch.tensor([-0.31, -0.02, 0.05, 0.4])[torch.randint(4, (rows, columns))]
    return layer


def test_it_keeps_the_contract():
    check_method(Jlcm(bits=(2,), groups=1, steps=1), task(nn.Sequential(nn.Linear(8, 16)), torch.randn(16, 8)))


def test_weights_of_four_values_take_two_bits_at_no_loss():
    whole = task(nn.Sequential(of_four_values()), torch.randn(64, 64))
    (small,) = run(Jlcm(bits=(2,), groups=1, steps=0), whole)
    (even,) = run(Clip(bits=(2,)), whole)
    assert error(small.module, whole) < 1e-3 * error(even.module, whole)


def test_k_means_is_stationary_and_better_than_its_start():
    values = torch.randn(2000) ** 3
    levels = _k_means(values, torch.linspace(-1, 1, 8))

    def squared(levels):
        return (values[:, None] - levels).abs().amin(1).square().mean()

    assert squared(levels) < 0.5 * squared(torch.linspace(-1, 1, 8))
    assert torch.equal(levels, levels.sort().values)


def test_neurons_of_one_shape_are_in_one_group():
    shapes = torch.stack([torch.randn(512) if i % 2 else torch.rand(512) - 0.5 for i in range(8)])
    groups = _sorted_groups(shapes, 2)
    assert len(set(groups[::2].tolist())) == len(set(groups[1::2].tolist())) == 1
    assert groups[0] != groups[1]


def test_groups_lower_the_error_of_weights_that_differ_in_shape():
    wide, narrow = torch.tensor([-1, -0.8, 0.8, 1]), torch.tensor([-1, -0.1, 0.1, 1])
    weight = torch.cat([values[torch.randint(4, (32, 64))] for values in (wide, narrow)])
    one, eight = (Jlcm(groups=g)._start(weight, 2, True) for g in (1, 8))
    errors = [((PackedTensor(_soft(s).coded(), 2, weight)() - weight) ** 2).mean().item() for s in (eight, one)]
    assert errors[0] < 0.3 * errors[1]


def test_learning_lowers_the_error_of_the_outputs():
    whole = task(nn.Sequential(nn.Linear(64, 64), nn.Tanh()), torch.randn(256, 16) @ torch.randn(16, 64) / 4)
    start, learned = (run(Jlcm(bits=(2,), groups=4, steps=n, rate=0.005), whole)[0] for n in (0, 80))
    assert error(learned.module, whole) < 0.5 * error(start.module, whole)
    assert "learned" in learned.note


def test_what_is_stored_is_indices_scales_codebooks_and_a_byte_a_row():
    net = nn.Sequential(nn.Linear(64, 32, bias=False))
    (small,) = run(Jlcm(bits=(3,), groups=4, steps=0), task(net, torch.randn(8, 64)))
    assert stored_bytes(small.module) == 32 * 64 * 3 // 8 + 2 * 32 + 4 * 4 * 8 + 32
    file = io.BytesIO()
    torch.save(small.module, file)
    file.seek(0)
    x = torch.randn(3, 64)
    assert torch.equal(torch.load(file, weights_only=False)(x), small.module(x))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(Refused, match="no linear"):
        run(Jlcm(), task(nn.LayerNorm(8), torch.randn(4, 8)))
    with pytest.raises(ValueError, match="groups=0"):
        Jlcm(groups=0)
