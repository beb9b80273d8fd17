"""What can this much compute buy, and how should it be spent?"""

from isoflop.cost import Budget, Cost, Meter
from isoflop.model.base import Sampling
from isoflop.run import Bench, Study, resume
from isoflop.task import Questions

__all__ = ["Bench", "Budget", "Cost", "Meter", "Questions", "Sampling", "Study", "resume"]
