"""Shares that meet a budget, and thresholds that bring the shares about."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.method.conditional.budget import SHARES, cut, exit_shares, leaves_at, solve_shares, solve_thresholds

FAMILIES = SHARES[:3]
costs = st.lists(st.floats(0.1, 5), min_size=2, max_size=8).map(lambda steps: np.cumsum(steps).tolist())


@given(st.sampled_from(FAMILIES), costs, st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_shares_meet_any_budget_within_reach(family, c, where):
    budget = c[0] + where * (c[-1] - c[0])
    p = solve_shares(family, c, budget)
    assert p.sum() == pytest.approx(1)
    assert (p >= 0).all()
    assert p @ np.array(c) == pytest.approx(budget, rel=1e-6)


def test_families_have_the_shape_of_their_name():
    assert exit_shares("exponential", np.log(2), 3) == pytest.approx(np.array([1, 2, 4]) / 7)
    gauss = exit_shares("gauss", 1.0, 3)
    assert gauss[0] == gauss[2]
    assert gauss[1] / gauss[0] == pytest.approx(np.exp(0.5))
    gamma = exit_shares("gamma", 3.0, 2)
    assert gamma[1] / gamma[0] == pytest.approx(2**2 * np.exp(-1))
    with pytest.raises(ValueError, match="no family"):
        exit_shares("poisson", 1.0, 2)


@given(st.integers(0, 10_000), st.sampled_from(SHARES), st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_thresholds_spend_the_budget_on_what_they_were_solved_on(seed, family, where):
    scores = np.random.default_rng(seed).standard_normal((400, 3))
    c = [1.0, 2.0, 3.5, 5.0]
    budget = c[0] + where * (c[-1] - c[0])
    at = leaves_at(scores, solve_thresholds(family, scores, c, budget))
    assert np.array(c)[at].mean() == pytest.approx(budget, rel=0.02)


def test_the_shares_leave_where_they_should_even_with_ties():
    scores = np.repeat([[3.0, 1.0], [2.0, 5.0], [1.0, 5.0], [0.0, 0.0]], 25, axis=0)
    at = leaves_at(scores, cut(scores, np.array([0.25, 0.5, 0.25])))
    assert np.bincount(at).tolist() == [25, 50, 25]


def test_nobody_leaves_where_nobody_can():
    scores = np.stack([np.full(100, -np.inf), np.arange(100.0)], 1)
    at = leaves_at(scores, solve_thresholds("exponential", scores, [1.0, 2.0, 3.0], 2.5))
    assert np.bincount(at).tolist() == [0, 50, 50]
    with pytest.raises(ValueError, match="outside of what the exits cost, 2 to 3"):
        solve_thresholds("level", scores, [1.0, 2.0, 3.0], 1.5)
