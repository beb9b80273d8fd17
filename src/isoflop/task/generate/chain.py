"""Chained arithmetic: a running total, changed by one operand after the other, each new total written out."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from isoflop.task.generate.base import PROMPT_END, RESPONSE_END, Example, Generator

_MODULUS = 100
_PROMPT = re.compile(r"(\d\d)((?: [-+*]\d)+):")
_OPERAND = re.compile(r"([-+*])(\d)")


def _apply(total: int, op: str, operand: int) -> int:
    return {"+": total + operand, "-": total - operand, "*": total * operand}[op] % _MODULUS


def _digits(total: int) -> str:
    """Two digits, the least significant first: each digit then depends on what is written already.

    >>> _digits(42), _digits(7)
    ('24', '70')
    """
    return f"{total:02d}"[::-1]


@final
@dataclass(frozen=True)
class Chain(Generator):
    """Add, subtract and multiply by digits, modulo 100, one step an operand.

    Totals, the start among them, are two digits, least significant first; a step is the new total and a space, and so
    as long as its operand. The difficulty counts the numbers. The layout does not depend on the numbers, so that these
    can be changed and the program kept, as in InfinityMATH.

    Args:
        fixed: draw from so many problems of each difficulty, always the same ones, as in a small data set (count); 0
            is from all.

    >>> Chain().draw(random.Random(1), 4)
    Example(prompt='71 *2 +8 -8:', steps=('43 ', '24 ', '43 '), answer='43', difficulty=4)
    """

    fixed: int = 0

    alphabet: ClassVar[str] = "0123456789+-* :\n"
    room: ClassVar[tuple[int, int]] = (24, 22)
    trained: ClassVar[tuple[int, ...]] = (2, 3, 4, 5, 6)
    beyond: ClassVar[tuple[int, ...]] = (7, 8)
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"fixed": {"fixed": 60}}

    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """A start and `difficulty - 1` operations with digits from 1 to 9, all equally likely."""
        if self.fixed:
            rng = random.Random(f"{difficulty}/{rng.randrange(self.fixed)}")
        start = rng.randrange(_MODULUS)
        program = tuple(rng.choice("+-*") for _ in range(difficulty - 1))
        return self.written(start, program, [rng.randrange(1, 10) for _ in program])

    def written(self, start: int, program: tuple[str, ...], operands: list[int]) -> Example:
        """The problem that applies `program`, a tuple of operators, to `start` with these operands."""
        total, steps = start, list[str]()
        for op, operand in zip(program, operands, strict=True):
            total = _apply(total, op, operand)
            steps.append(_digits(total) + " ")
        asked = "".join(f" {op}{operand}" for op, operand in zip(program, operands, strict=True))
        return Example(_digits(start) + asked + PROMPT_END, tuple(steps), _digits(total), len(program) + 1)

    def renumbered(self, example: Example, rng: random.Random) -> Example:
        """The same program with other numbers."""
        program = tuple(op for op, _ in _OPERAND.findall(example.prompt))
        return self.written(rng.randrange(_MODULUS), program, [rng.randrange(1, 10) for _ in program])

    def extract(self, response: str) -> str | None:
        """The last total, as it is written."""
        words = response.removesuffix(RESPONSE_END).split()
        return words[-1] if words and re.fullmatch(r"\d\d", words[-1]) else None

    def right(self, example: Example, answer: str) -> bool:
        """Whether `answer` is the last total; a response with too few or too many steps seldom ends in it."""
        return answer == example.answer

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """A step is right if it follows from the total before it in the response, which itself may be wrong."""
        match = _PROMPT.fullmatch(prompt)
        if not match:
            return []
        before, verdicts = int(match[1][::-1]), list[bool]()
        asked = _OPERAND.findall(match[2])
        for i, word in enumerate(response.split()):
            fits = i < len(asked) and re.fullmatch(r"\d\d", word) is not None
            verdicts.append(fits and int(word[::-1]) == _apply(before, asked[i][0], int(asked[i][1])))
            before = int(word[::-1]) if fits else before
        return verdicts
