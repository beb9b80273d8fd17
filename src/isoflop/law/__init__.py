"""Laws: fit, predict, choose, with honest uncertainty. One law a file; `find.names()` lists them."""

from isoflop.law.base import Interval, Law, Parameter
from isoflop.law.columns import BadData
from isoflop.law.engine import Objective
from isoflop.law.find import law, names
from isoflop.law.fit import Uncertainty, fit, fit_arrays
from isoflop.law.fitted import Estimate, Fit, Prediction, load
from isoflop.law.spend import Candidate, Comparison, Optimum, compare, next_run, optimum

__all__ = [
    "BadData",
    "Candidate",
    "Comparison",
    "Estimate",
    "Fit",
    "Interval",
    "Law",
    "Objective",
    "Optimum",
    "Parameter",
    "Prediction",
    "Uncertainty",
    "compare",
    "fit",
    "fit_arrays",
    "law",
    "load",
    "names",
    "next_run",
    "optimum",
]
