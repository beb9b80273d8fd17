"""What a picture of a fit shows, whoever draws it: the law with its runs, and what it leaves over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isoflop.law.engine import Floats
from isoflop.law.fitted import Fit
from isoflop.law.spend import optimum

_POINTS = 9
_FURTHER = 100.0  # how far the law is drawn beyond the largest run (factor of its input or compute)


class Panel(NamedTuple):
    """One pair of axes.

    Args:
        title: what it shows.
        across: label of the horizontal axis.
        up: label of the vertical axis.
        x: of the runs (M).
        y: of the runs (M).
        line: x, value, low and high of a curve with its interval (4, G).
        log: whether the horizontal axis is logarithmic.
    """

    title: str
    across: str
    up: str
    x: Floats
    y: Floats
    line: Floats
    log: bool = True


def panels(fit: Fit) -> list[Panel]:
    """The law against what was spent, and each run's miss."""
    x, y = fit.x, fit.y
    predicted = fit.predict(x).value.ravel()
    output, slug = fit.law.output, fit.law.slug
    if len(x) == 1:
        grid: Floats = np.geomspace(float(x.min()), float(x.max()) * _FURTHER, 60)
        at = fit.predict(grid)
        first = Panel(slug, fit.law.inputs[0], output, x[0], y, np.stack([grid, at.value, at.low, at.high]))
    elif set(fit.law.inputs) == {"params", "tokens"} and output == "loss":
        flops = 6 * x[0] * x[1]
        grid: Floats = np.geomspace(float(flops.min()), float(flops.max()) * _FURTHER, _POINTS)
        best = [optimum(fit, float(c)).loss for c in grid]
        line = np.stack([grid, *(np.array([float(v[i]) for v in best]) for i in range(3))])
        first = Panel(f"{slug}: runs, and the best split of each budget", "training FLOP", output, flops, y, line)
    else:
        ends = np.array([y.min(), y.max()])
        first = Panel(
            f"{slug}: measured against predicted", "predicted", output, predicted, y, np.stack([ends] * 4), False
        )
    flat = np.stack([np.array([predicted.min(), predicted.max()]), *np.zeros((3, 2))])
    miss = Panel(
        "what the law leaves over", f"predicted {output}", "measured - predicted", predicted, y - predicted, flat
    )
    return [first, miss._replace(log=False)]
