"""The simplest questions there are, for benchmarks of everything but the answers."""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.task import Grader, Question, Questions


@dataclass(frozen=True)
class Last(Grader):
    """The last word."""

    def extract(self, text: str) -> str | None:
        return (text.split() or [None])[-1]

    def canonical(self, answer: str) -> str:
        return answer


def sums(count: int) -> Questions:
    return Questions("sums", [Question(f"q{i}", f"What is {i}+1?", str(i + 1), Last()) for i in range(count)])
