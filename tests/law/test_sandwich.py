"""The sandwich against what it stands for: refits without a run or a cluster, and densities that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from isoflop.law.engine import Objective
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.log_linear import LogLinear
from isoflop.law.sandwich import spread

SQUARES = Objective("least_squares", scale="linear")


def line(runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = np.geomspace(1e3, 1e6, runs)
    return x, -0.2 + 0.06 * np.log(x) + 0.01 * np.random.default_rng(seed).standard_normal(runs)


def refitted(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Residuals of the runs left out, from a line through the others."""
    slope, level = np.polyfit(np.log(x[~out]), y[~out], 1)
    return level + slope * np.log(x[out]) - y[out]


@pytest.mark.parametrize("groups", [9, 3])
def test_left_out_residuals_are_those_of_refits_without_them(groups: int):
    x, y = line(9)
    cluster = np.arange(9) % groups
    found = fit_arrays(LogLinear(), x, y, SQUARES, Uncertainty(draws=0), cluster.tolist())
    for group in range(groups):
        out = cluster == group
        assert found.spread.left_out[out] == pytest.approx(refitted(x, y, out), rel=1e-9)


def test_least_squares_has_its_textbook_covariance():
    x, y = line(12)
    found = fit_arrays(LogLinear(), x, y, SQUARES, Uncertainty(draws=0))
    design = np.stack([np.ones(12), np.log(x)], axis=1)
    known = np.linalg.inv(design.T @ design) * (found.residuals @ found.residuals) / 10
    assert found.covariance == pytest.approx(known, rel=1e-9)
    assert found.spread.freedom == 10


@pytest.mark.parametrize(("kind", "variance"), [("lad", np.pi / 2), ("huber", 1 / 0.95)])
def test_robust_losses_have_their_known_efficiency(kind: str, variance: float):
    """Normal errors: the median is 64 % efficient, Huber's estimate at 1.345 standard deviations 95 %."""
    r = np.asarray(ndtri((np.arange(4000) + 0.5) / 4000))
    jac, free = np.ones((1, 4000)), np.ones(1, bool)
    aim = Objective(kind, 1.345, "linear")  # pyright: ignore[reportArgumentType]
    found = spread(r, jac, free, np.arange(4000), aim)
    assert found.covariance[0, 0] * 4000 == pytest.approx(variance, rel=0.08)


def test_a_cluster_that_alone_tells_a_parameter_does_not_break_it():
    _, y = line(8)
    jac = np.stack([np.ones(8), np.where(np.arange(8) < 2, 1.0, 0.0)])
    found = spread(y - y.mean(), jac, np.ones(2, bool), np.arange(8) // 2, SQUARES)
    assert np.isfinite(found.covariance).all()
