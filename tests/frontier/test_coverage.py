from __future__ import annotations

import numpy as np
import pytest

from isoflop.frontier import coverage, difficulty
from isoflop.record import Graded

GOLDEN_K = [1, 2, 4, 8, 16, 32, 64, 128]
GOLDEN = [0.453, 0.567, 0.666, 0.750, 0.817, 0.867, 0.906, 0.935]
"""Coverage of Qwen2.5-0.5B on GSM8K, 200 problems x 128 samples, as published in bestofn's README."""


def test_intervals_hold_the_published_curve_as_often_as_they_say(world):
    """Worlds of 200 problems from Beta(0.441, 0.549), as fitted to the golden data (residuals to 0.008)."""
    held = [
        coverage(world(200, 128, seed=seed).graded(), draws=200)[0].at(k).holds(golden)
        for seed in range(30)
        for k, golden in zip(GOLDEN_K, GOLDEN, strict=True)
    ]
    assert 0.85 <= np.mean(held) <= 1.0


def test_with_many_problems_it_is_the_published_curve(world):
    (found,) = coverage(world(20_000, 128).graded(), draws=50)
    assert np.allclose([found.at(k).value for k in GOLDEN_K], GOLDEN, atol=0.02)


def test_the_law_extends_a_short_curve_to_a_long_one(world):
    w = world(2000, 128)
    short = [Graded(g.model, g.key, g.split, None, 16, int(w.right[i, :16].sum())) for i, g in enumerate(w.graded())]
    (found,) = coverage(short, draws=200)
    (whole,) = coverage(w.graded(), draws=200)
    expected = found.forecast(128)
    assert expected is not None
    assert abs(expected.value - whole.at(128).value) < 0.02
    assert expected.holds(whole.at(128).value)
    with pytest.raises(ValueError, match="k=17"):
        found.at(17)


def test_problems_without_samples_are_counted_and_no_law_is_made_up():
    rows = [Graded("m", "a", "test", None, 4, 4), Graded("m", "b", "test", None, 0, 0)]
    (found,) = coverage(rows)
    assert (found.problems, found.left_out) == (1, 1)
    assert found.law is None
    assert found.forecast(10) is None
    assert coverage([rows[1]]) == []


def test_fewest_samples_limit_k_and_splits_are_apart():
    rows = [Graded("m", "a", "dev", None, 4, 1), Graded("m", "b", "test", None, 2, 1)]
    assert len(coverage(rows)[0].k) == 2
    assert coverage(rows, "dev")[0].at(4).value == 1.0


def test_difficulty_is_hardest_first():
    rows = [Graded("m", k, "test", None, 10, c) for k, c in (("easy", 9), ("hard", 0), ("middling", 5))]
    found = difficulty([*rows, Graded("m", "unknown", "test", None, 0, 0)])
    assert [d.graded.key for d in found] == ["hard", "middling", "easy"]
    assert found[0].p.high == pytest.approx(0.308, abs=1e-3)
