"""Problems without end: seeded generators with exact graders, step checkers and a difficulty knob."""

from isoflop.task.generate.base import Example, Generator, ProblemSplit, generator, generators

__all__ = ["Example", "Generator", "ProblemSplit", "generator", "generators"]
