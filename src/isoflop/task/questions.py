"""Sets of questions, by name or from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoflop.task.base import Question, Split


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """A set of questions with a development and a test split.

    Args:
        name: what it is called in records.
        questions: in a fixed order, keys unique.

    Raises:
        ValueError: two questions share a key.
    """

    name: str
    questions: Sequence[Question]
    digest: str = field(init=False)
    """Changes when any question, its order, or how it is graded changes."""
    _by_key: dict[str, Question] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_key = {q.key: q for q in self.questions}
        if len(by_key) < len(self.questions):
            raise ValueError(f"{self.name}: two questions share a key")
        object.__setattr__(self, "_by_key", by_key)
        object.__setattr__(self, "digest", _digest(self.questions))

    @staticmethod
    def load(path_or_name: str | Path) -> Questions:
        """The questions of a `.jsonl` file, or those shipped under a name.

        Raises:
            TaskError: there is no such file or name (the message lists the names), or rows cannot be used (it lists
                every one with its line).
        """
        raise NotImplementedError

    def keys(self, split: Split) -> list[str]:
        """The keys of a split, in order."""
        return [q.key for q in self.questions if q.split == split]

    def score(self, key: str, answer: str | None) -> float:
        """1 for a right answer, 0 for a wrong one or none.

        Raises:
            GraderError: it could not be told.
        """
        question = self._by_key[key]
        return 0.0 if answer is None else question.grader.grade(answer, question)

    def __getitem__(self, key: str) -> Question:
        return self._by_key[key]

    def __len__(self) -> int:
        return len(self.questions)

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)


def _digest(questions: Iterable[Question]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for q in questions:
        row = {f.name: getattr(q, f.name) for f in dataclasses.fields(q)}
        row["grader"] = [q.grader.name(), repr(q.grader)]
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
