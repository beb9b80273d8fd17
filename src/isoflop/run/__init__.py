"""The runner: models and methods side by side on a task, under one budget."""

from isoflop.run.bench import Bench, read_allocator, read_method, resume
from isoflop.run.scheduler import Snapshot
from isoflop.run.study import Study

__all__ = ["Bench", "Snapshot", "Study", "read_allocator", "read_method", "resume"]
