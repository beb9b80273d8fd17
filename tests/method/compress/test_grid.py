"""Grids place their levels as they say, and the clipped range is the better one."""

import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.grid import Grid  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def squared_error(grid, weight):
    return float(((grid.pack(weight)() - weight) ** 2).mean())


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_error_of_an_even_grid_falls_as_two_to_the_minus_bits(symmetric):
    weight = torch.rand(32, 512) * 2 - 1
    errors = [math.sqrt(squared_error(Grid(b, symmetric=symmetric), weight)) for b in range(3, 8)]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert sum(slopes) / len(slopes) == pytest.approx(1, abs=0.1)


def test_clipping_and_finer_scales_lower_the_error_of_bell_shaped_weights():
    weight = torch.randn(64, 256) * torch.rand(64, 1)
    tensor, channel, group = (squared_error(Grid(3, g), weight) for g in ("tensor", "channel", 32))
    assert tensor > channel > group
    assert channel < 0.7 * squared_error(Grid(3, clip=False), weight)


def test_what_is_stored_is_codes_and_scales():
    weight = torch.randn(64, 256)
    for granularity, scales in (("tensor", 1), ("channel", 64), (32, 64 * 8)):
        assert stored_bytes(Grid(4, granularity).pack(weight)) == 64 * 256 // 2 + 2 * scales + 1
        asymmetric = Grid(4, granularity, symmetric=False).pack(weight)
        assert stored_bytes(asymmetric) == 64 * 256 // 2 + 3 * scales


def test_a_group_that_does_not_divide_the_row_is_made_smaller():
    assert Grid(4, 32).groups(torch.zeros(4, 72)).shape == (4 * 3, 24)


def test_skewed_weights_want_an_asymmetric_grid():
    weight = torch.rand(16, 128) ** 2
    assert squared_error(Grid(4, symmetric=False), weight) < 0.4 * squared_error(Grid(4), weight)


def test_levels_of_a_power_grid_are_denser_near_zero_and_an_exponent_of_one_is_even():
    assert Grid(3).levels()[:7].tolist() == pytest.approx([-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1])
    assert Grid(3, exponent=0.5).levels()[:7].tolist() == pytest.approx([-1, -4 / 9, -1 / 9, 0, 1 / 9, 4 / 9, 1])
    weight = torch.randn(8, 64)
    assert squared_error(Grid(4, exponent=0.999999), weight) == pytest.approx(squared_error(Grid(4), weight), rel=1e-2)


def test_zeros_stay_zeros():
    for grid in (Grid(2), Grid(4, symmetric=False), Grid(4, exponent=0.6)):
        assert not grid.pack(torch.zeros(8, 16))().any()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bits": 1}, "bits=1 must be 2 to 8"),
        ({"bits": 4, "granularity": "row"}, "granularity='row' must be"),
        ({"bits": 4, "granularity": 0}, "granularity=0 must be"),
        ({"bits": 4, "symmetric": False, "exponent": 0.5}, "has no exponent"),
    ],
)
def test_what_makes_no_grid_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        Grid(**changes)
