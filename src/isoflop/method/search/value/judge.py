"""A model's rating as a value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from isoflop.method.search.problem import Candidate, Problem
from isoflop.method.search.value.base import Value
from isoflop.model.base import Message, Sampling

_ASK = (
    "Rate how likely the proposed answer is right, as one whole number from 0 (surely wrong) to 10 (surely right)."
    "\n\nQuestion:\n{question}\n\nProposed answer:\n{answer}\n\nReply with the number only."
)


@final
@dataclass(frozen=True)
class Judge(Value):
    """A language model rates each distinct answer from 0 to 10; its calls are charged to the role `judge`.

    Answers that mean the same are rated once a problem and batch. An unreadable rating counts as 5, the middle, so
    that a mute judge turns a weighted vote into a plain one.

    Args:
        max_tokens: the longest rating (count); a reasoning judge needs more.
    """

    max_tokens: int = 8

    def of(self, problem: Problem, candidates: Sequence[Candidate]) -> list[float]:
        """The rating over 10, in [0, 1]; 0 for a candidate without an answer."""
        answers = [c.answer for c in candidates if c.answer is not None]
        groups = problem.groups(answers)
        rating = {first: self._rate(problem, answers[first]) for first in dict.fromkeys(groups)}
        ratings = iter(rating[first] for first in groups)
        return [0.0 if c.answer is None else next(ratings) for c in candidates]

    def _rate(self, problem: Problem, answer: str) -> float:
        turns = problem.prompt if isinstance(problem.prompt, tuple) else (Message("user", problem.prompt),)
        question = "\n".join(turn.content for turn in turns)
        prompt = (Message("user", _ASK.format(question=question, answer=answer)),)
        sample = problem.rate(prompt, Sampling(max_tokens=self.max_tokens, temperature=0.0))
        number = re.search(r"\b(10|\d)\b", sample.text)
        return int(number[1]) / 10 if number else 0.5
