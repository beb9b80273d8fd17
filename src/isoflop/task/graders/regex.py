"""A pattern that the answer must match."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from isoflop.task.base import Grader, GraderError, Question
from isoflop.task.completion import Take, places
from isoflop.task.worker import OverLimit, worker


@final
@dataclass(frozen=True, slots=True)
class Regex(Grader):
    r"""The row's answer is a regular expression: right is what it matches from beginning to end.

    By default the answer is the whole completion, without spaces around it. With `capture` it is what that pattern's
    first group (or the whole pattern) matches last, so that votes count answers and not wordings: `capture` of
    `capital is (\w+)` with the answer `Paris|Lutetia`.

    Patterns run in a process of their own with a limit of CPU time; one that goes over it is the grader's fault.

    Args:
        capture: finds the answer in the completion; empty: `take` alone does.
        case: upper and lower case differ.
        take: where in a completion the answer is; `auto` is all of it.
        cpu_s: the most CPU time for one match (seconds).
    """

    capture: str = ""
    case: bool = False
    take: Take = "auto"
    cpu_s: float = 2.0

    def __post_init__(self) -> None:
        try:
            re.compile(self.capture)
        except re.error as error:
            raise ValueError(f"capture {self.capture!r} is no regular expression: {error}") from error

    def extract(self, text: str) -> str | None:
        """What `capture` finds, or the text itself."""
        place = "whole" if self.take == "auto" else self.take
        piece = next((piece.strip() for _, piece in places(text, place)), None)
        if not piece or not self.capture:
            return piece or None
        found = _bounded("captured", self.capture, piece, self.case, self.cpu_s)
        return found if isinstance(found, str) and found else None

    def canonical(self, answer: str) -> str:
        """The answer with single spaces, in lower case unless case counts."""
        words = " ".join(answer.split())
        return words if self.case else words.casefold()

    def grade(self, answer: str, question: Question) -> float:
        """1 if the question's pattern, or that of an alias, matches all of the answer."""
        patterns = (question.answer, *question.aliases)
        return float(any(_bounded("matches", p, answer.strip(), self.case, self.cpu_s) for p in patterns))

    def rejects(self, question: Question) -> str | None:
        """Why a pattern cannot be compiled."""
        for pattern in (question.answer, *question.aliases):
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                return f"the answer {pattern!r} is no regular expression: {error}"
        return None


@lru_cache(maxsize=65536)
def _bounded(function: str, pattern: str, text: str, case: bool, cpu_s: float) -> object:
    try:
        return worker("patterns").call(function, pattern, text, case, cpu_s=cpu_s)
    except OverLimit as over:
        raise GraderError(f"pattern {pattern!r} on an answer of {len(text)} characters: {over}") from over
