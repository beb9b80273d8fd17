"""How far the parameters of one fit may be off: the sandwich covariance, corrected for few runs.

Each residual is first replaced by what it would be had its run, or its cluster, not been fitted: least squares pulls a
run's residual in by its leverage, and a narrow Huber loss or least absolute deviations pin as many residuals at zero as
there are parameters. Left out so, they give intervals that hold the truth as often as they say in simulation
(`benchmarks/laws.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from isoflop.law.engine import Floats, Objective


@dataclass(frozen=True, slots=True)
class Spread:
    """What one fit leaves open.

    Args:
        covariance: of the solver's parameters (P, P); zero where a parameter is at its bound.
        uneven: the same where runs need not be equally noisy (P, P); by clusters, it is the covariance.
        noises: noise of each parameter (P): as `noise`, by clusters where there are any.
        leverage: share of each run's own miss that the fit takes up (M).
        left_out: residual of each run had it, or its cluster, not been fitted (M), to first order.
        slope: mean derivative of the loss's derivative, 1 for least squares.
        noise: variance that a run's error has for the estimate: sigma^2 for least squares.
        inflation: by how much the fit has shrunk the scores of runs or clusters, and so what refits spread (factor).
        freedom: of Student's t for the intervals (count).
    """

    covariance: Floats
    uneven: Floats
    noises: Floats
    leverage: Floats
    left_out: Floats
    slope: float
    noise: float
    inflation: float
    freedom: int


def spread(r: Floats, jac: Floats, free: NDArray[np.bool_], cluster: NDArray[np.intp], objective: Objective) -> Spread:
    """The spread of a fit with residuals r (M) and their derivative jac (P, M).

    Runs that stand alone are taken to be equally noisy; of clusters only independence from each other is asked
    (the jackknife form CR3 of Bell and McCaffrey 2002, with one degree of freedom less than there are clusters).

    Args:
        r: residuals at the optimum (M).
        jac: their derivative (P, M).
        free: parameters that are not at a bound (P).
        cluster: of each run (M), counted from 0.
        objective: what was minimised.
    """
    count, runs, groups = int(free.sum()), len(r), int(cluster.max()) + 1
    length = np.sqrt(np.einsum("pm,pm->p", jac[free], jac[free]))
    length = np.where(length > 0, length, 1.0)
    unit = jac[free] / length[:, None]
    bread = np.asarray(np.linalg.pinv(unit @ unit.T, hermitian=True), float)
    leverage = np.minimum(np.einsum("pm,pq,qm->m", unit, bread, unit), 1.0 - 1e-6)
    if groups == runs:
        left_out, freedom = r / (1.0 - leverage), max(runs - count, 1)
    else:
        left_out, freedom = _without_clusters(r, unit, bread, cluster), max(groups - 1, 1)
    slope = _slope(left_out, objective)
    psi = _psi(r, objective)
    noise = float(psi @ psi) / max(runs - count, 1) / slope**2
    fitted, scores = np.zeros((2, groups, count))
    np.add.at(fitted, cluster, (unit * psi).T)
    np.add.at(scores, cluster, (unit * _psi(left_out, objective)).T)
    inflation = max(float(np.linalg.norm(scores)) / max(float(np.linalg.norm(fitted)), 1e-300), 1.0)
    alone = groups == runs
    apart = bread @ (scores.T @ scores) @ bread * ((1.0 if alone else (groups - 1) / groups) / slope**2)
    inner = bread * noise if alone else apart
    covariance, uneven = np.zeros((2, len(free), len(free)))
    covariance[np.ix_(free, free)] = inner / np.outer(length, length)
    uneven[np.ix_(free, free)] = apart / np.outer(length, length)
    noises = np.full(len(free), noise)
    noises[free] = np.diag(inner) / np.maximum(np.diag(bread), 1e-300)
    return Spread(covariance, uneven, noises, leverage, left_out, slope, noise, inflation, freedom)


def _without_clusters(r: Floats, unit: Floats, bread: Floats, cluster: NDArray[np.intp]) -> Floats:
    """Residuals (M) had the cluster of each not been fitted: (1 - H_gg)^-1 r_g."""
    out = np.empty_like(r)
    for group in range(int(cluster.max()) + 1):
        at = np.flatnonzero(cluster == group)
        hat = unit[:, at].T @ bread @ unit[:, at]
        # A cluster that alone tells a parameter cannot be left out: pinv leaves that direction alone.
        out[at] = np.linalg.pinv(np.eye(len(at)) - hat, rcond=1e-6, hermitian=True) @ r[at]
    return out


def _psi(r: Floats, objective: Objective) -> Floats:
    """The loss's derivative."""
    if objective.kind == "least_squares":
        return r
    return np.sign(r) if objective.kind == "lad" else np.clip(r, -objective.delta, objective.delta)


def _slope(left_out: Floats, objective: Objective) -> float:
    """Mean derivative of psi: the share of errors inside delta, or their density at zero.

    Few may lie there, so each counts with a normal kernel of Silverman's width.
    """
    if objective.kind == "least_squares":
        return 1.0
    quartiles = float(np.subtract(*np.percentile(left_out, [75, 25]))) / 1.349
    width = 0.9 * (min(float(np.std(left_out)), quartiles) + 1e-300) * len(left_out) ** -0.2
    delta = objective.delta if objective.kind == "huber" else 1e-3 * width
    inside = cast("Floats", ndtr((delta - left_out) / width) - ndtr((-delta - left_out) / width))
    slope = max(float(inside.mean()), 1e-12)
    # psi of least absolute deviations jumps by 2 at zero: twice the density, which is share / (2 delta).
    return slope / delta if objective.kind == "lad" else slope
