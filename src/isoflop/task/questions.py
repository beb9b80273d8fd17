"""Sets of questions, by name or from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoflop.task.base import Question, Split, TaskError
from isoflop.task.rows import choose, read_rows

_HERE = Path(__file__).parent
_DATA = _HERE / "data"


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
        source = str(path_or_name)
        data = _DATA / f"{source}.jsonl"
        if source not in shipped():
            path = Path(path_or_name)
            if path.suffix != ".jsonl" and not path.is_file():
                raise TaskError(source, [f"no task has this name; {choose(source, shipped())}, or any .jsonl file"])
            try:
                return Questions(path.stem, read_rows(path.read_bytes(), source))
            except OSError as error:
                raise TaskError(source, [f"cannot be read: {error.strerror}"]) from error
        if data.is_file():
            return Questions(source, read_rows(data.read_bytes(), source))
        try:
            return Questions(source, importlib.import_module(f"isoflop.task.named.{source}").questions())
        except ModuleNotFoundError as error:
            raise TaskError(source, [f"needs {error.name}: pip install 'isoflop[code]'"]) from error

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


def shipped() -> list[str]:
    """The names of the sets that come with the package: the files of `data/` and of `named/`."""
    files = [path.stem for path in _DATA.glob("*.jsonl")]
    return sorted([*files, *(module.name for module in pkgutil.iter_modules([str(_HERE / "named")]))])


def _digest(questions: Iterable[Question]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for q in questions:
        row = {f.name: getattr(q, f.name) for f in dataclasses.fields(q)}
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode() + b"\n")
    return digest.hexdigest()
