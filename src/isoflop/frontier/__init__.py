"""Quality against cost: curves, the frontier, coverage, and the plan."""

from isoflop.frontier.coverage import Coverage, Difficulty, coverage, difficulty
from isoflop.frontier.curve import Curve, curves
from isoflop.frontier.estimate import Difference, Estimate
from isoflop.frontier.frontier import Band, Frontier, FrontierError, Point
from isoflop.frontier.plan import Plan, Tenfold, plan, plan_from

__all__ = [
    "Band",
    "Coverage",
    "Curve",
    "Difference",
    "Difficulty",
    "Estimate",
    "Frontier",
    "FrontierError",
    "Plan",
    "Point",
    "Tenfold",
    "coverage",
    "curves",
    "difficulty",
    "plan",
    "plan_from",
]
