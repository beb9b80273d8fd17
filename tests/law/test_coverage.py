"""Coverage: published check values, exact oracles, and what the estimators promise in simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from isoflop.law.coverage import (
    beta_coverage,
    fit_beta_coverage,
    fit_power_coverage,
    majority_confidence,
    pass_at_k,
    pass_hat_k,
    pass_until,
    power_coverage,
)

# bestofn's README: Qwen2.5-0.5B on GSM8K, 200 problems x 128 tries.
K = 2.0 ** np.arange(8)
MEASURED = np.array([0.453, 0.567, 0.666, 0.750, 0.817, 0.867, 0.906, 0.935])


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [(10, 3, 5, 0.916667), (200, 1, 100, 0.5), (200, 10, 10, 0.408548), (10_000, 3, 1000, 0.271024)],
)
def test_pass_at_k_published(n: int, c: int, k: int, value: float):
    assert float(pass_at_k(n, c, k)) == pytest.approx(value, abs=5e-7)


@given(st.integers(1, 300), st.data())
def test_pass_at_k_is_the_ratio_of_binomials(n: int, data: st.DataObject):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    assert float(pass_at_k(n, c, k)) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-11)
    assert float(pass_hat_k(n, c, k)) == pytest.approx(math.comb(c, k) / math.comb(n, k), abs=1e-11)


def test_pass_at_k_at_its_edges():
    assert float(pass_at_k(10, 3, 8)) == 1.0  # 8 > 10 - 3: one success is certain
    assert float(pass_at_k(10, 0, 10)) == 0.0
    assert float(pass_at_k(7, 3, 1)) == pytest.approx(3 / 7, abs=1e-14)
    assert pass_at_k([10, 20], [3, 3], [[1], [2]]).shape == (2, 2)


def test_pass_at_k_is_unbiased_where_the_plug_in_is_not():
    p, n, k = 0.3, 6, 4
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    mean = sum(w * float(pass_at_k(n, c, k)) for c, w in enumerate(weights))
    plug_in = sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(weights))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
    assert plug_in < mean - 0.03
    assert pytest.approx(0.831930, abs=5e-7) == 1 - (1 - 3 / 10) ** 5


@pytest.mark.parametrize(("n", "c", "k"), [(10, 11, 1), (10, -1, 1), (10, 3, 11), (10, 2.5, 1)])
def test_counts_that_cannot_be(n: int, c: float, k: int):
    with pytest.raises(ValueError, match="entry 0: n=10"):
        pass_at_k(n, c, k)


def test_power_coverage_on_the_golden_curve():
    fit = fit_power_coverage(K, MEASURED)
    assert fit.a == pytest.approx(-0.7985, abs=5e-5)
    assert fit.b == pytest.approx(-0.4961, abs=5e-5)
    assert np.abs(fit(K) - MEASURED).max() == pytest.approx(0.0044, abs=5e-5)
    log_log = fit_power_coverage(K, MEASURED, "log_log")
    assert log_log == pytest.approx((-0.8113, -0.5067), abs=5e-5)
    early = fit_power_coverage(K[:5], MEASURED[:5])
    assert float(early(128)) == pytest.approx(0.9286, abs=5e-5)


def test_beta_curve_on_the_golden_data():
    def misses(theta: np.ndarray, last: int = 8) -> np.ndarray:
        return beta_coverage(K[:last], *np.exp(theta)) - MEASURED[:last]

    A, B = np.exp(least_squares(misses, [0.0, 0.0]).x)
    assert pytest.approx((0.441, 0.549), abs=5e-4) == (A, B)
    assert np.abs(beta_coverage(K, A, B) - MEASURED).max() == pytest.approx(0.008, abs=5e-4)
    early = np.exp(least_squares(misses, [0.0, 0.0], kwargs={"last": 5}).x)
    assert float(beta_coverage(128, *early)) == pytest.approx(0.9214, abs=5e-5)


@pytest.mark.parametrize("method", ["least_squares", "log_log"])
def test_power_coverage_recovers_its_truth(method: str):
    fit = fit_power_coverage(K, power_coverage(K, -1.7, -0.31), method)  # pyright: ignore[reportArgumentType]
    assert fit == pytest.approx((-1.7, -0.31), abs=1e-8)


def test_power_coverage_refuses_what_it_cannot_fit():
    with pytest.raises(ValueError, match=r"coverage\[1\] = 1 has no double logarithm"):
        fit_power_coverage([1, 2, 4], [0.5, 1.0, 0.9], "log_log")
    assert fit_power_coverage([1, 2, 4], [0.0, 0.5, 1.0]).b < 0
    with pytest.raises(ValueError, match="two different k"):
        fit_power_coverage([4, 4], [0.5, 0.5])
    with pytest.raises(ValueError, match="fraction"):
        fit_power_coverage([1, 2], [0.5, 1.5])


def test_beta_coverage_against_integer_cases_and_its_tail():
    # Beta(1, 1): E[(1-p)^k] = 1 / (k + 1).
    assert beta_coverage([1, 9], 1, 1) == pytest.approx([0.5, 0.9])
    A, B = 0.3, 2.0
    tail = math.gamma(A + B) / math.gamma(B) * 1e8**-A
    assert 1 - float(beta_coverage(1e8, A, B)) == pytest.approx(tail, rel=1e-6)


def test_beta_fit_finds_the_spread_of_chances():
    rng = np.random.default_rng(1)
    p = rng.beta(0.441, 0.549, 20_000)
    n = rng.choice([8, 32], 20_000)
    fit = fit_beta_coverage(n, rng.binomial(n, p))
    assert pytest.approx((0.441, 0.549), rel=0.04) == (fit.A, fit.B)
    assert float(fit(1000)) == pytest.approx(float(beta_coverage(1000, 0.441, 0.549)), abs=0.005)


def test_beta_forecast_interval_covers_the_truth():
    rng = np.random.default_rng(2)
    truth = float(beta_coverage(2000, 0.35, 1.5))
    inside = 0
    runs = 80
    for _ in range(runs):
        c = rng.binomial(40, rng.beta(0.35, 1.5, 150))
        band = fit_beta_coverage(40, c).forecast(2000, 0.9)
        inside += bool(band.low < truth < band.high)
    # Three standard errors of a share of 0.9 in 80 runs.
    assert abs(inside / runs - 0.9) < 3 * math.sqrt(0.09 / runs)


def test_beta_forecast_beats_the_power_law_from_few_tries():
    """The claim of arXiv 2502.17578, on a truth that is a Beta: the distribution extrapolates, the curve does not."""
    rng = np.random.default_rng(3)
    misses: list[tuple[float, float]] = []
    for _ in range(20):
        c = rng.binomial(32, rng.beta(0.25, 3.0, 300))
        curve = [float(pass_at_k(32, c, int(k)).mean()) for k in K[:6]]
        truth = float(beta_coverage(10_000, 0.25, 3.0))
        power, beta = fit_power_coverage(K[:6], curve), fit_beta_coverage(32, c)
        misses.append((abs(float(power(10_000)) - truth), abs(float(beta(10_000)) - truth)))
    by_power, by_beta = np.mean(misses, axis=0)
    assert by_beta < 0.6 * by_power


@pytest.mark.parametrize(("n", "c"), [(10, [0, 0]), (10, [10, 10]), (1, [0, 1])])
def test_beta_fit_says_when_nothing_can_be_known(n: int, c: list[int]):
    with pytest.raises(ValueError, match=r"not visible|tried once"):
        fit_beta_coverage(n, c)


def test_beta_fit_of_problems_all_alike_is_a_binomial():
    fit = fit_beta_coverage(100, [50] * 20)
    assert float(fit(3)) == pytest.approx(1 - 0.5**3, abs=1e-3)
    band = fit.forecast(3)
    assert np.all(np.isfinite([band.low, band.high]))


def test_pass_until_bias_is_as_derived():
    p = 0.1
    draws = np.arange(1, 2000)
    one = sum(p * (1 - p) ** (K - 1) * pass_until(1, int(K), unbiased=False) for K in draws)
    assert one == pytest.approx(-p * math.log(p) / (1 - p), abs=1e-9)
    assert one == pytest.approx(0.2558, abs=5e-5)
    ten = sum(math.comb(K - 1, 9) * p**10 * (1 - p) ** (K - 10) * pass_until(10, K) for K in range(10, 1000))
    assert ten == pytest.approx(0.1, abs=1e-9)
    with pytest.raises(ValueError, match="at least 2 successes"):
        pass_until(1, 5)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [(3, 0, 0.93750), (4, 0, 0.96875), (5, 1, 0.93750), (6, 1, 0.96484), (8, 2, 0.96729)],
)
def test_majority_confidence_published(first: int, second: int, value: float):
    assert majority_confidence(first, second) == pytest.approx(value, abs=5e-6)


def test_majority_confidence_is_the_binomial_sum():
    for first, second in product(range(6), range(6)):
        total = first + second + 1
        exact = 1 - sum(math.comb(total, k) for k in range(second + 1)) / 2**total
        # The sum counts the tail of the runner-up; the rule's P is 1 minus it on the other side.
        assert majority_confidence(first, second) == pytest.approx(exact, abs=1e-12)
