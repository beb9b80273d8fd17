"""Plots of fits: plotly for reading on screen, matplotlib for paper (imported when asked for)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import plotly.graph_objects as go

from isoflop.law.engine import Floats
from isoflop.law.fit import Fit, Prediction


def curve(fit: Fit, points: int = 80, decades: float = 1.0) -> tuple[Floats, Prediction]:
    """The fitted law with its interval along one input, for plots: the place on the axis and the prediction.

    For a law of one input that input; for params and tokens compute 6 N D at its best split; for others the runs
    themselves.
    """
    names = fit.law.inputs
    if len(names) == 1:
        x: Floats = np.geomspace(float(fit.x.min()), float(fit.x.max()) * 10**decades, points)
        return x, fit.predict(x)
    if set(names) == {"params", "tokens"}:
        spent = 6 * fit.x.prod(axis=0)
        flops: Floats = np.geomspace(float(spent.min()), float(spent.max()) * 10**decades, points // 8)
        best = [fit.optimum(float(c)).loss for c in flops]
        value, low, high = (np.array([b[i] for b in best], float) for i in range(3))
        return flops, Prediction(value, low, high, np.maximum(np.log10(flops / spent.max()), 0.0))
    order = np.argsort(fit.x.prod(axis=0))
    found = fit.predict(fit.x[:, order])
    return np.arange(1.0, len(order) + 1), found


def axis_of(fit: Fit) -> tuple[str, Floats]:
    """What the horizontal axis shows, and where the runs are on it."""
    names = fit.law.inputs
    if len(names) == 1:
        return names[0], fit.x[0]
    if set(names) == {"params", "tokens"}:
        return "training compute (FLOP)", 6 * fit.x.prod(axis=0)
    return "run, in order of the product of its inputs", np.argsort(np.argsort(fit.x.prod(axis=0))).astype(float) + 1


def plotly_figure(fit: Fit) -> go.Figure:
    """Runs, the fitted law and its 90 % interval, as a plotly figure."""
    title, at = axis_of(fit)
    x, found = curve(fit)
    figure: Any = go.Figure()
    figure.add_scatter(x=x, y=found.high, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
    figure.add_scatter(x=x, y=found.low, mode="lines", line={"width": 0}, fill="tonexty", name="90 % interval")
    figure.add_scatter(x=x, y=found.value, mode="lines", name=fit.law.slug)
    figure.add_scatter(x=at, y=fit.y, mode="markers", name="runs")
    figure.update_xaxes(title=title, type="log" if len(fit.law.inputs) < 3 else "linear")
    figure.update_yaxes(title=fit.law.output)
    return figure


def matplotlib_figure(fit: Fit) -> Any:
    """The same as a matplotlib figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed: pip install 'isoflop[plot]'.
    """
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a matplotlib plot needs matplotlib: pip install 'isoflop[plot]'") from None
    title, at = axis_of(fit)
    x, found = curve(fit)
    figure = figures.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(x, found.low, found.high, alpha=0.25, label="90 % interval")
    axes.plot(x, found.value, label=fit.law.slug)
    axes.plot(at, fit.y, "k.", markersize=4, label="runs")
    if len(fit.law.inputs) < 3:
        axes.set_xscale("log")
    axes.set_xlabel(title)
    axes.set_ylabel(fit.law.output)
    axes.legend()
    return figure
