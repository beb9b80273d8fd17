"""What a generator is: a problem for every index, a grade for every response, a verdict for every step."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from isoflop.task.base import TaskError

ProblemSplit = Literal["train", "dev", "test", "harder"]
PROBLEM_SPLITS: tuple[ProblemSplit, ...] = get_args(ProblemSplit)
PROMPT_END = ":"
"""The last character of every prompt, and of no other place in one."""
RESPONSE_END = "\n"
"""The last character of every response: the end of generation."""
_HELD_OUT = 0.05  # share of all problems in dev, and again in test


@dataclass(frozen=True, slots=True)
class Example:
    """A problem with a worked solution.

    Args:
        prompt: what is asked; ends in `PROMPT_END`.
        steps: the written work, one string a step, the answer among them; joined they are the response.
        answer: what `Generator.extract` finds in a right response (one of many where many are right), and in itself.
        difficulty: the knob's value, larger is harder.
    """

    prompt: str
    steps: tuple[str, ...]
    answer: str
    difficulty: int

    @property
    def response(self) -> str:
        """The worked solution as a model should write it."""
        return "".join(self.steps) + RESPONSE_END

    @property
    def key(self) -> str:
        """Names the problem: equal for equal prompts."""
        return hashlib.blake2b(self.prompt.encode(), digest_size=8).hexdigest()


class Generator(ABC):
    """An endless task: problem `index` of a split, always the same one.

    A split is a range of the hash of the prompt, so no problem is in two of them, whatever the index or the
    difficulty; `harder` holds only difficulties that `train` never has. A generator is one file
    `task/generate/<name>.py` with the final frozen dataclass of that name, whose fields are its options; a variant is
    a named choice of them.
    """

    alphabet: ClassVar[str]
    """Every character a prompt or response can hold, `PROMPT_END` and `RESPONSE_END` among them."""
    ends: ClassVar[tuple[str, str]] = (PROMPT_END, RESPONSE_END)
    """The characters that end a prompt and a response."""
    room: ClassVar[tuple[int, int]]
    """The longest prompt and the longest response (characters)."""
    trained: ClassVar[tuple[int, ...]]
    """Difficulties of the splits train, dev and test."""
    beyond: ClassVar[tuple[int, ...]]
    """Difficulties of the split `harder`."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Options by the word after the dash in `<name>-<variant>`."""

    @classmethod
    def kind(cls) -> str:
        """The name of its file."""
        return cls.__name__.lower()

    @property
    def name(self) -> str:
        """What rows call it: its kind, and the variant after a dash if it is one."""
        for variant, options in self.variants.items():
            if self == type(self)(**options):
                return f"{self.kind()}-{variant}"
        return self.kind()

    # What a generator writes

    @abstractmethod
    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """One problem of a difficulty, with its solution."""

    @abstractmethod
    def extract(self, response: str) -> str | None:
        """The answer in a response, or None if it holds none."""

    @abstractmethod
    def right(self, example: Example, answer: str) -> bool:
        """Whether an answer solves a problem, exactly; only the problem's prompt and answer are looked at."""

    @abstractmethod
    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """For each step of a response, finished or not, whether it is right: the truth a process reward is after."""

    # What every generator has

    def problem(self, split: ProblemSplit, index: int, difficulty: int | None = None) -> Example:
        """Problem number `index` of a split; without a difficulty they take turns.

        Raises:
            ValueError: the split does not have this difficulty, or (almost) no problems of it.
        """
        has = self.beyond if split == "harder" else self.trained
        if difficulty is None:
            difficulty = has[index % len(has)]
        elif difficulty not in has:
            raise ValueError(f"{self.name}: the split {split!r} has difficulties {has}, not {difficulty}")
        stem = f"{self.kind()}/{split}/{index}/{difficulty}/"
        for attempt in range(2000):
            example = self.draw(random.Random(stem + str(attempt)), difficulty)
            if split == "harder" or _split_of(example.prompt) == split:
                return example
        raise ValueError(f"{self.name}: found no problem of difficulty {difficulty} in the split {split!r}")

    def grade(self, example: Example, response: str) -> float:
        """1 for a response with a right answer, else 0."""
        answer = self.extract(response)
        return float(answer is not None and self.right(example, answer))

    def check_step(self, prompt: str, before: str, step: str) -> bool:
        """Whether `step` is right after the steps `before` it."""
        return all(self.check_steps(prompt, before + step)[-1:])


def _split_of(prompt: str) -> ProblemSplit:
    share = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=4, person=b"split").digest(), "little") / 2**32
    return "test" if share < _HELD_OUT else "dev" if share < 2 * _HELD_OUT else "train"


@cache
def _classes() -> dict[str, type[Generator]]:
    found: dict[str, type[Generator]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "base":
            members = vars(importlib.import_module(f"isoflop.task.generate.{module.name}")).values()
            found.update(
                {m.kind(): m for m in members if inspect.isclass(m) and issubclass(m, Generator) and m is not Generator}
            )
    return found


def generators() -> Sequence[str]:
    """The names of all generators and their variants, by listing the folder."""
    return [
        name for kind, cls in _classes().items() for name in (kind, *(f"{kind}-{variant}" for variant in cls.variants))
    ]


def generator(name: str) -> Generator:
    """The generator of a name such as `chain` or `automata-direct`.

    Raises:
        TaskError: there is none; the message lists those that exist.
    """
    kind, dash, variant = name.partition("-")
    cls = _classes().get(kind)
    if cls is None or (dash and variant not in cls.variants):
        raise TaskError(name, [f"no generator has this name; there are {', '.join(generators())}"])
    return cls(**cls.variants[variant]) if dash else cls()
