"""Schedules read off a log of learning rates are those that made it."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.law.engine import Objective, minimise
from isoflop.law.fitted import Fit, problem_of
from isoflop.law.multi_power import MultiPower, from_rates, warm_up


def test_schedules_come_back_from_a_thinned_log():
    flat = warm_up(3e-4, 20, np.full(80, 3e-4))
    falling = warm_up(3e-4, 20, np.linspace(3e-4, 3e-5, 80))
    step = np.arange(20, 101, 10)
    label = ["flat"] * len(step) + ["falling"] * len(step)
    rate = [schedule[s - 1] for schedule in (flat, falling) for s in step]
    law, number = from_rates(label, np.tile(step, 2), rate)
    assert number.tolist() == [1.0] * len(step) + [2.0] * len(step)
    assert np.allclose(law.schedules[0], flat, atol=1e-12)
    assert np.allclose(law.schedules[1], falling, rtol=2e-2), (
        "the rate falls from the step after the first that was logged"
    )
    assert law.stride == 1


def test_the_sum_over_changes_is_the_formulas_term_by_term():
    # Zero for a while, then changes at most steps, a constant stretch, and a drop.
    schedule = (0.0, 0.0, 1e-4, 2e-4, 3e-4, 3e-4, 3e-4, 1e-4, 2e-4)
    law = MultiPower((schedule,))
    values = {"L0": 3.0, "A": 0.52, "alpha": 0.5, "B": 364.0, "C": 2.1, "beta": 0.58, "gamma": 0.64}
    rate, total = np.array(schedule), np.cumsum(schedule)
    for step in (3, 5, 9):
        drop = sum(
            (rate[k] - rate[k - 1]) * (1 - (1 + 2.1 * rate[k] ** -0.64 * (total[step - 1] - total[k - 1])) ** -0.58)
            for k in range(2, step)
        )
        expected = 3.0 + 0.52 * total[step - 1] ** -0.5 + 364.0 * drop
        assert law.value(1, step, **values) == pytest.approx(expected, rel=1e-12)


def test_problems_solved_in_blocks_are_those_solved_alone(monkeypatch: pytest.MonkeyPatch):
    law = MultiPower((warm_up(3e-4, 5, np.linspace(3e-4, 3e-5, 20)), warm_up(3e-4, 5, np.full(20, 3e-4))))
    x = np.array([[1.0, 2, 1, 2, 1], [4, 9, 25, 25, 4]])
    theta = law.theta(L0=3, A=0.5, alpha=0.5, B=300, C=2, beta=0.6, gamma=0.6) + 0.01 * np.arange(6)[:, None]
    together = law.model(x, theta)
    monkeypatch.setattr("isoflop.law.multi_power._PAIRS", 30)
    for whole, part in zip(together, law.model(x, theta)):
        assert np.allclose(whole, part, rtol=1e-14)


def test_where_a_parameter_is_bent_its_own_interval_follows_and_covariance_does_not():
    """Three short schedules hardly show B: it may be far higher, not much lower; covariance says both alike."""
    share, peak = np.linspace(0, 1, 55), 3e-4
    shares = (np.ones(55), 0.1 + 0.45 * (1 + np.cos(np.pi * share)), np.where(share < 0.5, 1, 0.2))
    law = MultiPower(tuple(warm_up(peak, 5, peak * s) for s in shares))
    x, truth = law.example()
    y = law.value(*x, **truth) * np.exp(0.0005 * np.random.default_rng(1).standard_normal(x.shape[1]))
    aim = Objective("least_squares")
    best = minimise(problem_of(law, x, y, aim), law.theta(**truth)[None], np.ones(len(y))).theta[0]
    fit = Fit(law, x, y, aim, best, np.empty((0, 7)), 1.0, np.arange(len(y)))
    value, low, high = fit.profile("B")
    assert np.log(high / value) > 2 * np.log(value / low)
    assert low < truth["B"] < high
    straight = fit.parameters(by="covariance")[3]
    assert straight.low < low / 10
    assert straight.high > 2 * high
