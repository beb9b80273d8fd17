"""Plots show the runs, the law and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.law.find import law
from isoflop.law.fit import Fit, Uncertainty, fit_arrays
from isoflop.law.plot import matplotlib_figure, plotly_figure


def fitted(name: str) -> Fit:
    chosen = law(name)
    x, truth = chosen.example()
    y = chosen.value(*x, **truth) * np.exp(0.005 * np.random.default_rng(0).standard_normal(x.shape[1]))
    return fit_arrays(chosen, x, y, uncertainty=Uncertainty(draws=0))


@pytest.mark.parametrize("name", ["power_floor", "chinchilla", "compound"])
def test_both_plots_hold_the_same(name: str):
    fit = fitted(name)
    figure = plotly_figure(fit)
    traces = {trace.name: trace for trace in figure.data}
    assert np.array_equal(traces["runs"].y, fit.y)
    low, value = np.asarray(traces["90 % interval"].y), np.asarray(traces[name].y)
    assert np.all(low <= value)
    pytest.importorskip("matplotlib")
    axes = matplotlib_figure(fit).axes[0]
    assert np.array_equal(axes.lines[1].get_ydata(), fit.y)
    assert np.allclose(axes.lines[0].get_ydata(), value)
