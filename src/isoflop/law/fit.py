"""Fitting a law to runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isoflop.law.base import Law
from isoflop.law.columns import BadData, Table, as_columns, check_design, numbers
from isoflop.law.engine import Floats, Objective, Problem, minimise
from isoflop.law.find import law as law_named
from isoflop.law.find import law_class, names
from isoflop.law.fitted import Fit, problem_of

AGREE = 1e-9
"""Starts agree when their objectives do to this share."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What intervals are to rest on.

    Args:
        draws: bootstrap refits (count); 0 leaves the covariance and the profile likelihood.
        clusters: column whose equal values mark runs that err together (a model family, a sweep); None: each run alone.
        seed: of the bootstrap weights; fits with the same seed and rows have paired draws.
    """

    draws: int = 1000
    clusters: str | None = None
    seed: int = 0


def fit_arrays(
    law: Law,
    x: ArrayLike,
    y: ArrayLike,
    objective: Objective | None = None,
    uncertainty: Uncertainty | None = None,
    cluster: Sequence[object] | None = None,
) -> Fit:
    """Fit a law to arrays: inputs x (K, M) or (M), measured y (M).

    Args:
        law: what to fit.
        x: inputs in the law's order.
        y: outputs.
        objective: what to minimise; the law's own choice if not given.
        uncertainty: number of bootstrap draws and seed.
        cluster: labels (M) of runs that err together; each run alone if not given.

    Raises:
        BadData: data that no fit could use.
    """
    aim = law.objective if objective is None else objective
    sure = Uncertainty() if uncertainty is None else uncertainty
    columns = np.asarray(x, float).reshape(len(law.inputs), -1)
    out = np.asarray(y, float).ravel()
    if columns.shape[1] != len(out):
        raise BadData(f"x has {columns.shape[1]} rows, y has {len(out)}")
    check_design(dict(zip(law.inputs, columns)), law.output, out, len(law.parameters))
    problem = problem_of(law, columns, out, aim)
    ones = np.ones(len(out))
    with np.errstate(all="ignore"):
        found = minimise(problem, law.starts(columns, out, ones), ones)
    best = int(np.argmin(found.objective))
    if not np.isfinite(found.objective[best]):
        raise BadData(
            f"no start of {law.slug} gave a finite loss on these {len(out)} runs: is it the right law for them?"
        )
    lowest = float(found.objective[best])
    agree = float(np.mean(found.objective <= lowest + AGREE * max(abs(lowest), 1e-12 * len(out))))
    labels = np.arange(len(out)) if cluster is None else _codes(cluster)
    draws = bootstrap(problem, found.theta[best], labels, sure.draws, sure.seed)
    return Fit(law, columns, out, aim, found.theta[best], draws, agree, labels)


def fit(
    table: Table,
    law: str | Law = "chinchilla",
    x: Sequence[str] = (),
    y: str = "",
    objective: Objective | str | None = None,
    uncertainty: Uncertainty | None = None,
) -> Fit:
    """Fit a law to a run log: a file, rows or columns.

    Args:
        table: .csv, .jsonl or .parquet, a list of rows by name, or columns by name.
        law: its name, or a Law with its fields set.
        x: columns of the law's inputs, in its order; the law's own names if not given.
        y: column of the output; the law's own name if not given.
        objective: an Objective, or the name of its kind.
        uncertainty: draws, clusters, seed.

    Raises:
        BadData: one clear message, with column and row.
        ValueError: unknown law or objective, or the wrong number of inputs.
    """
    chosen = law_named(law) if isinstance(law, str) else law
    columns = as_columns(table)
    wanted = tuple(x) or chosen.inputs
    if len(wanted) != len(chosen.inputs):
        raise ValueError(
            f"{chosen.slug} takes {len(chosen.inputs)} inputs ({', '.join(chosen.inputs)}), not {len(wanted)}"
        )
    zero = [name in chosen.may_be_zero for name in chosen.inputs]
    inputs = np.stack([numbers(columns, name, zero=z) for name, z in zip(wanted, zero)])
    measured = numbers(columns, y or chosen.output, fraction=chosen.fraction)
    aim = replace(chosen.objective, kind=cast("Any", objective)) if isinstance(objective, str) else objective
    sure = Uncertainty() if uncertainty is None else uncertainty
    if sure.clusters is not None and sure.clusters not in columns:
        raise BadData(f"no column {sure.clusters!r} for the clusters; there are {', '.join(columns)}")
    check_design(dict(zip(wanted, inputs)), y or chosen.output, measured, len(chosen.parameters))
    labels = columns[sure.clusters] if sure.clusters else None
    return fit_arrays(chosen, inputs, measured, aim, sure, labels)


def laws_for(inputs: Sequence[str]) -> list[str]:
    """Names of the laws that take these inputs, in any order."""
    return [name for name in names() if sorted(law_class(name).inputs) == sorted(inputs)]


def bootstrap(problem: Problem, theta: Floats, cluster: NDArray[np.intp], draws: int, seed: int = 0) -> Floats:
    """Refits under random weights (R, P).

    Weights are exponential (Rubin's Bayesian bootstrap): their refits spread as those of resampled rows do, and no
    model size ever drops out of a small design.
    """
    if draws == 0:
        return np.empty((0, len(theta)))
    weights = np.random.default_rng(seed).standard_exponential((draws, int(cluster.max()) + 1))
    weights = (weights / weights.mean(axis=1, keepdims=True))[:, cluster]
    return minimise(problem, np.repeat(theta[None], draws, axis=0), weights, tolerance=1e-8).theta


def _codes(labels: Sequence[object]) -> NDArray[np.intp]:
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], np.intp)
