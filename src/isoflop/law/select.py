"""Which law? Ordered hold-out first, as laws are there to extrapolate; information criteria between those that tie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.law.columns import BadData
from isoflop.law.engine import Floats, Objective
from isoflop.law.find import law as law_named
from isoflop.law.fit import Fit, Uncertainty, fit_arrays

TIE = 2.0
"""Hold-out errors within this factor of the least count as a tie, which AICc decides."""


@dataclass(frozen=True)
class Ranked:
    """One law in a selection.

    Args:
        name: the law.
        fit: to all runs; None if it could not be fitted.
        held_out: median error of the transformed output on the largest runs, fitted on the smaller ones; infinite if it
            could not be fitted to those.
        aicc: of the fit to all runs.
        bic: likewise.
        why_not: the message, where it could not be fitted.
    """

    name: str
    fit: Fit | None
    held_out: float
    aicc: float
    bic: float
    why_not: str = ""


def select(
    laws: Sequence[str], x: Floats, y: Floats, objective: Objective | None = None, held_out: float = 0.3
) -> list[Ranked]:
    """Laws from best to worst.

    The runs are ordered by the product of their inputs (by compute, for params and tokens); the largest share is
    predicted from the rest. Laws whose error is within a factor of two of the least are then ordered by AICc.

    Args:
        laws: names; all with the same inputs.
        x: inputs (K, M).
        y: outputs (M).
        objective: one for all, so that criteria compare; Huber on the logarithm if not given.
        held_out: share of the runs that is predicted (fraction).

    Raises:
        BadData: none of the laws can be fitted.
    """
    aim = Objective() if objective is None else objective
    columns = np.asarray(x, float).reshape(-1, len(y))
    order = np.argsort(np.log(columns).sum(axis=0), kind="stable")
    split = len(y) - max(1, round(held_out * len(y)))
    small, large = order[:split], order[split:]
    quick = Uncertainty(draws=0)
    ranked: list[Ranked] = []
    for name in laws:
        law = law_named(name)
        try:
            whole = fit_arrays(law, columns, y, aim, quick)
        except BadData as error:
            ranked.append(Ranked(name, None, np.inf, np.inf, np.inf, str(error)))
            continue
        try:
            part = fit_arrays(law, columns[:, small], y[small], aim, quick)
            miss = aim.transform(part.predict(columns[:, large]).value) - aim.transform(y[large])
            error = float(np.median(np.abs(miss)))
        except BadData:
            error = np.inf
        ranked.append(Ranked(name, whole, error, whole.information("aicc"), whole.information("bic")))
    if all(r.fit is None for r in ranked):
        raise BadData("no law fits: " + "; ".join(f"{r.name}: {r.why_not}" for r in ranked))
    least = min(r.held_out for r in ranked)
    return sorted(ranked, key=lambda r: (0.0, r.aicc) if r.held_out <= TIE * least else (r.held_out, r.aicc))
