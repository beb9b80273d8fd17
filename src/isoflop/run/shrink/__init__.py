"""The same model for less: which method, on this machine, holds the floor at the least cost."""

from isoflop.run.shrink.call import shrink
from isoflop.run.shrink.search import Standing
from isoflop.run.shrink.study import ShrinkStudy

__all__ = ["ShrinkStudy", "Standing", "shrink"]
