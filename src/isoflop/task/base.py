"""What is asked and how answers are graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from isoflop.sandbox import Checks

Split = Literal["dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TurnRole = Literal["system", "user", "assistant"]
Prompt = str | tuple[tuple[TurnRole, str], ...]
"""Plain text, or the turns of a conversation as (role, content)."""


class TaskError(ValueError):
    """A set of questions cannot be used; raised before anything is spent.

    Args:
        source: the file or name that was asked for.
        problems: what is wrong, all of it, each with its line where it has one.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source, self.problems = source, tuple(problems)
        if len(problems) == 1:
            super().__init__(f"{source}: {problems[0]}")
        else:
            super().__init__("\n  ".join([f"{source}: {len(problems)} problems", *problems]))


class GraderError(Exception):
    """The third verdict: the grader, not the answer, is at fault, and the answer is neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Question:
    """One problem with its right answer.

    Args:
        key: unique in its set.
        prompt: what the model gets.
        answer: a right answer; what that means is the grader's (a value, a pattern, a reference program).
        grader: tells right from wrong.
        split: `dev` to tune on, `test` to report.
        level: difficulty, larger is harder, if anybody said so.
        aliases: further right answers.
        tests: programs only: what a right one must pass, the public ones besides; methods must not look.
        public_tests: programs only: what a method may see and run.
    """

    key: str
    prompt: Prompt
    answer: str
    grader: Grader
    split: Split = "test"
    level: int | None = None
    aliases: tuple[str, ...] = ()
    tests: tuple[Checks, ...] = ()
    public_tests: tuple[Checks, ...] = ()


class Grader(ABC):
    """Finds the answer in a completion and tells whether it is right.

    A grader is one file `task/graders/<name>.py` with the final frozen dataclass of that name; its fields are its
    options. It has no state: any thread may use it.
    """

    @classmethod
    def name(cls) -> str:
        """What rows call it: the name of its file."""
        return cls.__name__.lower()

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """The answer in a completion, or None where there is none, as in one that was cut off."""

    @abstractmethod
    def canonical(self, answer: str) -> str:
        """A form that is equal only for answers that mean the same, so that a dictionary can count votes.

        It is one answer's own and hence cannot always be equal for all that mean the same; see `groups`.
        """

    def same(self, a: str, b: str) -> bool:
        """Whether two answers mean the same: reflexive, symmetric, not always transitive (tolerances)."""
        return self.canonical(a) == self.canonical(b)

    def grade(self, answer: str, question: Question) -> float:
        """1 for an answer that means the same as the question's or one of its aliases, else 0.

        Raises:
            GraderError: it could not be told.
        """
        return float(any(self.same(answer, right) for right in (question.answer, *question.aliases)))

    def groups(self, answers: Sequence[str]) -> list[int]:
        """For each answer the place of the first one in its group: the transitive closure of `same`, in any order.

        Cost: one comparison for each of `pairs`.
        """
        forms: dict[str, int] = {}
        group = [forms.setdefault(self.canonical(answer), i) for i, answer in enumerate(answers)]
        distinct = list(forms.values())
        for a, b in self.pairs([answers[i] for i in distinct]):
            first, second = (_root(group, distinct[place]) for place in (a, b))
            if first != second and self.same(answers[distinct[a]], answers[distinct[b]]):
                group[max(first, second)] = min(first, second)
        return [_root(group, i) for i in range(len(answers))]

    def pairs(self, answers: Sequence[str]) -> Iterable[tuple[int, int]]:
        """The pairs of answers, by place, that `groups` must ask `same` about; no two have the same canonical form."""
        return () if type(self).same is Grader.same else combinations(range(len(answers)), 2)

    def suited(self, answer: str) -> Grader:
        """This grader with options left open set from a question's right answer."""
        return self

    def rejects(self, question: Question) -> str | None:
        """Why this grader cannot grade `question`, or None: above all, its own answer must be right."""
        for right in (question.answer, *question.aliases):
            found = self.extract(right)
            if found is None or not self.same(found, right):
                return f"the grader {self.name()!r} does not accept the row's own answer {right!r}"
        return None


def _root(group: list[int], i: int) -> int:
    """The first member of the group of `i`; shortens the way there."""
    while group[i] != i:
        group[i] = group[group[i]]
        i = group[i]
    return i
