"""Coverage: the share of problems that at least one of k tries solves, from counts of tries and successes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares, minimize
from scipy.special import betainc, betaln, digamma, expit, gammaln, logit, ndtri, polygamma

from isoflop.law.base import FRACTION, Interval, Law, Parameter, crossed, exponent
from isoflop.law.engine import Floats, Objective


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Chance that one of `k` tries solves a problem which `c` of `n` tries solved: 1 - C(n-c, k) / C(n, k).

    Unbiased for every k up to n (Chen et al. 2021, arXiv 2107.03374, eq. 1). Broadcasts over its arguments.

    Args:
        n: tries (count).
        c: tries that succeeded (count, at most n).
        k: tries allowed (count, at most n).

    Raises:
        ValueError: counts that cannot be; k above n, where no unbiased estimate exists.

    >>> round(float(pass_at_k(10, 3, 5)), 6)
    0.916667
    """
    tries, hits, allowed = _counts(n, c, k)
    return -np.expm1(_log_all(tries, tries - hits, allowed))


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Chance that all of `k` tries solve a problem which `c` of `n` tries solved: C(c, k) / C(n, k).

    The reliability measure of tau-bench (Yao et al. 2024, arXiv 2406.12045). Unbiased; broadcasts.

    Args:
        n: tries (count).
        c: tries that succeeded (count, at most n).
        k: tries asked of it (count, at most n).

    Raises:
        ValueError: counts that cannot be; k above n.

    >>> round(float(pass_hat_k(4, 2, 2)), 6)
    0.166667
    """
    tries, hits, asked = _counts(n, c, k)
    return np.exp(_log_all(tries, hits, asked))


@final
@dataclass(frozen=True)
class Coverage(Law):
    """Coverage exp(-rate k^-b) after k tries: -log coverage is a power law."""

    inputs: ClassVar[tuple[str, ...]] = ("k",)
    output: ClassVar[str] = "coverage"
    fraction: ClassVar[bool] = True
    objective: ClassVar[Objective] = FRACTION
    source: ClassVar[str] = "Brown et al. 2024, arXiv 2407.21787, eq. 1"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """rate (-a in the paper), b (-b in the paper)."""
        return Parameter("rate", 1e-6, 1e6, log=True, starts=(0.3, 1.0, 4.0)), exponent("b", 0.1, 0.3, 0.6)

    def example(self) -> tuple[Floats, dict[str, float]]:
        """See `Law.example`."""
        return crossed(2.0 ** np.arange(12)), {"rate": 0.8, "b": 0.45}

    def model(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """See `Law.model`."""
        (log_k,) = np.log(x)
        missing = np.exp(theta[:, :1] - theta[:, 1:2] * log_k)
        share = np.exp(-missing)
        return share, np.stack([-missing * share, missing * share * log_k], axis=1)


def power_coverage(k: ArrayLike, a: float, b: float) -> Floats:
    """Coverage after `k` tries under the exponentiated power law exp(a k^b), a < 0, b < 0.

    (Brown et al. 2024, arXiv 2407.21787, eq. 1.)
    """
    return np.exp(a * np.asarray(k, float) ** b)


class PowerCoverage(NamedTuple):
    """Fitted constants of coverage = exp(a k^b)."""

    a: float
    b: float

    def __call__(self, k: ArrayLike) -> Floats:
        """Coverage after `k` tries."""
        return power_coverage(k, self.a, self.b)


def fit_power_coverage(
    k: ArrayLike, coverage: ArrayLike, method: Literal["least_squares", "log_log"] = "least_squares"
) -> PowerCoverage:
    """Fit coverage = exp(a k^b) to a measured curve.

    `least_squares` weighs misses of coverage itself alike; `log_log` regresses log(-log coverage) on log k, as is often
    done, and so gives the flat end of the curve most weight. From per-problem counts `fit_beta_coverage` is the better
    estimator: log-log least squares on pass@k is statistically poor (Kazdan et al. 2025, arXiv 2510.05197).

    Args:
        k: tries (count), at least two different.
        coverage: share of problems solved in k tries (fraction).
        method: what is minimised.

    Raises:
        ValueError: fewer than two different k; for `log_log`, a coverage of 0 or 1, whose double logarithm is infinite.
    """
    tries, share = np.asarray(k, float), np.asarray(coverage, float)
    if tries.shape != share.shape or tries.ndim != 1 or len(np.unique(tries)) < 2 or np.any(tries < 1):
        raise ValueError("k and coverage must be lists of the same length, with two different k >= 1 at least")
    inside = (share > 0) & (share < 1)
    if not np.all((share >= 0) & (share <= 1)):
        raise ValueError("coverage is a fraction: every value must lie in [0, 1]")
    if method == "log_log" and not inside.all():
        bad = int(np.argmin(inside))
        raise ValueError(
            f"coverage[{bad}] = {share[bad]:g} has no double logarithm; leave it out or use method='least_squares'"
        )
    log_k = np.log(tries)
    if inside.sum() >= 2:
        slope, intercept = np.polyfit(log_k[inside], np.log(-np.log(share[inside])), 1)
    else:
        slope, intercept = -0.5, 0.0
    if method == "least_squares":

        def residuals(theta: Floats) -> Floats:
            return np.exp(-np.exp(theta[0] + theta[1] * log_k)) - share

        def jacobian(theta: Floats) -> Floats:
            rate = np.exp(theta[0] + theta[1] * log_k)
            by_intercept = -rate * np.exp(-rate)
            return np.stack([by_intercept, by_intercept * log_k], axis=1)

        found = least_squares(residuals, (intercept, slope), jac=jacobian, xtol=1e-14, ftol=1e-14, gtol=1e-14)
        intercept, slope = found.x
    return PowerCoverage(-math.exp(intercept), float(slope))


def beta_coverage(k: ArrayLike, A: float, B: float) -> Floats:
    """Coverage after `k` tries when chances of success are Beta(A, B) over problems: 1 - B(A, B+k) / B(A, B).

    For large k it tends to 1 - Gamma(A+B)/Gamma(B) k^-A: the power law of coverage comes from the problems that are
    nearly never solved (Schaeffer et al. 2025, arXiv 2502.17578).
    """
    return -np.expm1(betaln(A, B + np.asarray(k, float)) - betaln(A, B))


@dataclass(frozen=True, slots=True)
class BetaCoverage:
    """Chances of success spread over problems as Beta(A, B), with what the data leave open.

    Args:
        A: tail exponent: coverage misses fall as k^-A.
        B: the other shape parameter.
        covariance: of (log A, log B), from the observed information (2 x 2).
    """

    A: float
    B: float
    covariance: Floats

    def __call__(self, k: ArrayLike) -> Floats:
        """Coverage after `k` tries, expected over problems like those of the fit."""
        return beta_coverage(k, self.A, self.B)

    def forecast(self, k: ArrayLike, level: float = 0.9) -> Interval:
        """Coverage after `k` tries with the interval that uncertain A and B leave (delta method on the logit).

        It holds for the mean over many problems of the same kind, not for one more small sample of them.
        """
        tries = np.asarray(k, float)
        value = self(tries)
        miss = 1.0 - value
        # d miss / d log A and d log B, from the derivatives of log B(A, B+k) - log B(A, B).
        both = digamma(self.A + self.B) - digamma(self.A + self.B + tries)
        by_a = self.A * both
        by_b = self.B * (digamma(self.B + tries) - digamma(self.B) + both)
        with np.errstate(divide="ignore", invalid="ignore"):
            gradient = np.stack([by_a, by_b]) / value  # of the logit of miss: dm / (m (1 - m)) = dlog m / (1 - m)
            spread = np.sqrt(np.einsum("i...,ij,j...->...", gradient, self.covariance, gradient))
            half = ndtri(0.5 + level / 2) * spread
            return Interval(value, 1 - expit(logit(miss) + half), 1 - expit(logit(miss) - half))


def fit_beta_coverage(n: ArrayLike, c: ArrayLike) -> BetaCoverage:
    """Fit Beta(A, B) to successes `c` out of `n` tries per problem, by beta-binomial maximum likelihood.

    Uses each problem's own count, so it extrapolates in k with far less data than a fit to the coverage curve.

    Args:
        n: tries per problem (counts; may differ between problems).
        c: successes per problem (counts).

    Raises:
        ValueError: counts that cannot be; none or all of the tries succeeded, or no problem was tried twice, so that
            nothing is known of how chances differ between problems.
    """
    tries, hits, _ = _counts(n, c, 0)
    tries, hits = np.broadcast_arrays(np.atleast_1d(tries), np.atleast_1d(hits))
    tries, hits = tries.ravel(), hits.ravel()
    if hits.sum() == 0 or np.all(hits == tries):
        raise ValueError(
            f"{hits.sum():.0f} of {tries.sum():.0f} tries succeeded: the spread of chances over problems is not visible"
        )
    if tries.max() < 2:
        raise ValueError("every problem was tried once: sample at least two tries of some problems")
    misses = tries - hits

    def loss(theta: Floats) -> tuple[float, Floats]:
        A, B = math.exp(theta[0]), math.exp(theta[1])
        value = betaln(hits + A, misses + B) - betaln(A, B)
        both = digamma(A + B) - digamma(tries + A + B)
        by_a = A * (digamma(hits + A) - digamma(A) + both)
        by_b = B * (digamma(misses + B) - digamma(B) + both)
        return -float(value.sum()), -np.array([by_a.sum(), by_b.sum()])

    share = np.clip(hits.sum() / tries.sum(), 1e-6, 1 - 1e-6)
    # Problems all alike push A + B to infinity; the bounds stop there, at what is a plain binomial.
    starts = [np.log([share * size, (1 - share) * size]) for size in (0.3, 3.0, 30.0)]
    found = min(
        (minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-14, 14)] * 2) for start in starts),
        key=lambda result: float(result.fun),
    )
    A, B = (float(v) for v in np.exp(found.x))
    return BetaCoverage(A, B, _beta_covariance(A, B, hits, misses))


def _beta_covariance(A: float, B: float, hits: Floats, misses: Floats) -> Floats:
    """Inverse observed information in (log A, log B), where the score is zero."""
    shared = np.sum(polygamma(1, A + B) - polygamma(1, hits + misses + A + B))
    by_aa = A * A * (np.sum(polygamma(1, hits + A) - polygamma(1, A)) + shared)
    by_bb = B * B * (np.sum(polygamma(1, misses + B) - polygamma(1, B)) + shared)
    information = -np.array([[by_aa, A * B * shared], [A * B * shared, by_bb]])
    return np.linalg.pinv(information, hermitian=True)


def pass_until(successes: int, draws: int, *, unbiased: bool = True) -> float:
    """Success rate of a task sampled until `successes` tries passed, which took `draws` tries.

    (Hu et al. 2023, arXiv 2310.03262.) `unbiased` gives (r-1)/(K-1); the maximum likelihood r/K, which that paper
    uses, is too high: for r = 1 its mean is -p log p / (1 - p).

    Raises:
        ValueError: counts that cannot be, or one success where the unbiased estimate needs two.

    >>> pass_until(10, 91), pass_until(10, 100, unbiased=False)
    (0.1, 0.1)
    """
    least = 2 if unbiased else 1
    if successes < least or draws < successes:
        raise ValueError(
            f"{successes} successes in {draws} draws: at least {least} successes are needed, and no more than draws"
        )
    return (successes - 1) / (draws - 1) if unbiased else successes / draws


def majority_confidence(first: int, second: int) -> float:
    """Chance that the leading answer stays ahead of the runner-up: 1 - I_0.5(first + 1, second + 1).

    The Beta stopping rule of adaptive consistency (Aggarwal et al. 2023, arXiv 2305.11860): stop when it passes 0.95,
    which four votes that agree do.

    Args:
        first: votes for the leading answer (count).
        second: votes for the runner-up (count).

    Raises:
        ValueError: a negative count.

    >>> majority_confidence(3, 0), majority_confidence(4, 0)
    (0.9375, 0.96875)
    """
    if first < 0 or second < 0:
        raise ValueError(f"votes {first} and {second} must not be negative")
    return 1.0 - float(betainc(first + 1, second + 1, 0.5))


def _log_all(n: Floats, m: Floats, k: Floats) -> Floats:
    """log C(m, k) / C(n, k): by log-gamma, as the binomials themselves overflow at thousands of tries."""
    draws = np.minimum(k, m)
    log_share = gammaln(m + 1) - gammaln(m - draws + 1) - gammaln(n + 1) + gammaln(n - draws + 1)
    return np.where(k > m, -np.inf, np.minimum(log_share, 0.0))


def _counts(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> tuple[Floats, Floats, Floats]:
    tries, hits, allowed = (np.asarray(v, float) for v in (n, c, k))
    wrong = (hits < 0) | (hits > tries) | (allowed < 0) | (allowed > tries)
    wrong = wrong | (tries != np.floor(tries)) | (hits != np.floor(hits)) | (allowed != np.floor(allowed))
    if np.any(wrong):
        first = int(np.argmax(wrong))
        bad = [float(np.broadcast_to(v, np.shape(wrong)).flat[first]) for v in (tries, hits, allowed)]
        raise ValueError(
            f"entry {first}: n={bad[0]:g} tries, c={bad[1]:g} successes, k={bad[2]:g}; "
            "needed are whole numbers with 0 <= c <= n and 0 <= k <= n"
        )
    return tries, hits, allowed
