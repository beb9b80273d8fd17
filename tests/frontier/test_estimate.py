from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.frontier.estimate import Resamples, difference, estimate, intervals, proportion


def test_weights_are_counts_of_draws_with_replacement():
    weights = Resamples(30, 200).weights
    assert weights.shape == (200, 30)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights * 30, np.round(weights * 30))
    assert weights.std(axis=1).min() > 0


def test_bootstrap_spread_is_the_standard_error():
    rng = np.random.default_rng(1)
    values = rng.normal(size=400)
    spread = Resamples(400, 4000).means(values).std()
    assert spread == pytest.approx(values.std() / 20, rel=0.05)


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        values = (rng.random(100) < 0.3).astype(float)
        held += estimate(values.mean(), Resamples(100, 400).means(values)).holds(0.3)
    assert 0.90 <= held / 300 <= 0.99


def test_pairing_narrows_the_interval_of_a_difference():
    rng = np.random.default_rng(3)
    hard = rng.normal(size=200)
    a, b = hard + 0.1 + 0.05 * rng.normal(size=200), hard + 0.05 * rng.normal(size=200)
    shared = Resamples(200)
    paired = difference((a - b).mean(), shared.means(a) - shared.means(b))
    apart = difference((a - b).mean(), shared.means(a) - Resamples(200, seed=9).means(b))
    assert paired.p < 0.01 < apart.p
    assert paired.estimate.high - paired.estimate.low < (apart.estimate.high - apart.estimate.low) / 5


def test_no_difference_has_no_small_p():
    same = np.zeros(100)
    assert difference(0.0, Resamples(100).means(same)).p == 1.0


def test_intervals_keep_trailing_shape():
    low, high = intervals(np.random.default_rng(0).normal(size=(500, 3, 2)))
    assert low.shape == high.shape == (3, 2)
    assert (low < 0).all()
    assert (high > 0).all()


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_proportion_holds_its_value_and_stays_in_range(counts):
    right, of = counts
    found = proportion(right, of)
    assert 0 <= found.low <= found.value <= found.high <= 1
    mirrored = proportion(of - right, of)
    assert found.low == pytest.approx(1 - mirrored.high)


def test_proportion_of_nothing_is_unknown():
    found = proportion(0, 0)
    assert np.isnan(found.value)
    assert (found.low, found.high) == (0, 1)
