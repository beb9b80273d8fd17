"""Fitting tables: columns, clusters, laws by their inputs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.law.simulated import QUICK, TRUTH, runs

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.fit import Uncertainty, fit, fit_arrays, laws_for


def test_clusters_widen_intervals_when_runs_err_together():
    law = Chinchilla()
    x, _ = law.example()
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(7), 7)
    y = law.value(*x, **TRUTH) * np.exp(0.02 * rng.standard_normal(7)[family] + 0.001 * rng.standard_normal(49))
    table = {"params": x[0], "tokens": x[1], "loss": y, "family": [f"f{i}" for i in family]}
    alone = fit(table, objective="least_squares", uncertainty=Uncertainty(draws=100))
    together = fit(table, objective="least_squares", uncertainty=Uncertainty(draws=100, clusters="family"))
    assert np.array_equal(alone.theta, together.theta)
    assert together.spread.freedom < alone.spread.freedom
    for by in ("covariance", "bootstrap"):
        widths = [f.predict({"params": 1e10, "tokens": 1e12}, by=by) for f in (alone, together)]
        assert widths[1].high - widths[1].low > widths[0].high - widths[0].low


def test_columns_by_other_names_and_laws_by_inputs():
    x, y = runs()
    table = {"N": x[0], "D": x[1], "val_loss": y}
    named = fit(table, "chinchilla", ["N", "D"], "val_loss", uncertainty=QUICK)
    assert np.array_equal(named.theta, fit_arrays(Chinchilla(), x, y, uncertainty=QUICK).theta)
    with pytest.raises(ValueError, match=r"takes 2 inputs \(params, tokens\), not 1"):
        fit(table, "chinchilla", ["N"], "val_loss")
    assert {"chinchilla", "kaplan", "over_training"} <= set(laws_for(["tokens", "params"]))
