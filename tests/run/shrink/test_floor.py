"""A floor is held only where that is shown."""

import math

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from isoflop.method.shrink import Data, Workload  # noqa: E402
from isoflop.run.shrink.floor import Floor  # noqa: E402

DATA = Data((torch.zeros(2, 1),), torch.zeros(2))


def workload(**changes):
    return Workload("toy", DATA, DATA, DATA, lambda out, t: out[:, 0], **changes)


def perplexity(scores):
    return -float(np.exp(-scores.mean()))


def test_words():
    assert Floor.parse(" 0.99x") == Floor(0.99, True)
    assert Floor.parse("-1.5") == Floor.parse(-1.5) == Floor(-1.5, False)
    assert [str(Floor.parse(w)) for w in ("0.99x", "0.8")] == ["0.99x", "0.8"]
    for words in ("", "x", "1.2x", "0x", "99%", "0.9 0.8"):
        with pytest.raises(ValueError, match=r"share of the original.*or a\s+quality"):
            Floor.parse(words)


def test_a_share_of_a_loss_allows_more_of_it():
    assert Floor(0.5, True).of(-3.0) == -6.0


def test_equal_answers_hold_a_share_only_with_enough_examples():
    """With 100 equal answers a loss of 1 in 100 is not ruled out; with 1000 it is."""
    floor = Floor(0.99, True)
    few, many = (np.tile([1.0, 1, 1, 0], n) for n in (25, 250))
    assert floor.margin(workload(), few, few).low < 0 < floor.margin(workload(), many, many).low


@pytest.mark.parametrize("relative", [True, False])
def test_at_the_edge_of_the_floor_a_worse_model_passes_as_rarely_as_promised(relative):
    """Truth exactly at the floor: the lower end must not lie above it more often than 2.5 % (and some noise)."""
    rng = np.random.default_rng(0)
    was, now, n, passed = 0.9, 0.855, 300, 0
    floor = Floor(0.95, True) if relative else Floor(now, False)
    for _ in range(400):
        luck = rng.random(n)
        passed += floor.margin(workload(), (luck < now) * 1.0, (luck < was) * 1.0).low >= 0
    assert passed <= 400 * 0.025 + 3 * math.sqrt(400 * 0.025)


def test_a_figure_that_is_no_mean_is_resampled_itself():
    rng = np.random.default_rng(0)
    was = -rng.exponential(2.0, 500)
    floor = Floor(1 / 1.15, True)  # 15 % more perplexity
    better, worse = floor.margin(workload(quality=perplexity), was - 0.1, was), None
    worse = floor.margin(workload(quality=perplexity), was - 0.16, was)
    assert better.low > 0 > worse.high
    assert better.value == pytest.approx(perplexity(was - 0.1) - 1.15 * perplexity(was))


def test_pairing_makes_a_small_constant_loss_certain():
    was = np.random.default_rng(0).normal(10, 5, 50)
    found = Floor(0.9, True).margin(workload(), was - 0.01, was)
    assert found.low > 0


def test_scores_that_are_no_numbers_never_hold():
    scores = np.array([1.0, float("nan")])
    assert Floor(0.1, True).margin(workload(), scores, np.ones(2)).high == -math.inf
