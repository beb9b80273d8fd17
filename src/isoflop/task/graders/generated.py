"""The exact grader of a generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from isoflop.task.base import Grader, Question
from isoflop.task.generate.base import Example, generator


@final
@dataclass(frozen=True, slots=True)
class Generated(Grader):
    """The answer solves a generated problem: any that does is right, as in Countdown.

    Args:
        task: the generator's name.
    """

    task: str = "chain"

    def extract(self, text: str) -> str | None:
        """The answer in a response."""
        return generator(self.task).extract(text)

    def canonical(self, answer: str) -> str:
        """The answer itself; two ways to a solution are two answers."""
        return answer.strip()

    def grade(self, answer: str, question: Question) -> float:
        """1 for an answer that solves the problem, else 0."""
        prompt = question.prompt if isinstance(question.prompt, str) else "".join(text for _, text in question.prompt)
        example = Example(prompt, (), question.answer, question.level or 0)
        return float(generator(self.task).right(example, answer))
