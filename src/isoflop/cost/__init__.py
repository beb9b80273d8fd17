"""Cost, budgets, meters; FLOP formulas, energy and prices."""

from isoflop.cost.budget import Budget
from isoflop.cost.meter import ROLES, BudgetExhausted, Hold, Meter, Role
from isoflop.cost.vector import AXES, FREE, UNKNOWN, Axis, Cost, in_parallel, in_sequence

__all__ = [
    "AXES",
    "FREE",
    "ROLES",
    "UNKNOWN",
    "Axis",
    "Budget",
    "BudgetExhausted",
    "Cost",
    "Hold",
    "Meter",
    "Role",
    "in_parallel",
    "in_sequence",
]
