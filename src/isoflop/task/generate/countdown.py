"""Countdown: combine all numbers by + - * / until the target is left."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from isoflop.task.generate.base import PROMPT_END, RESPONSE_END, Example, Generator

_LARGEST = 99
_UNDO = "< "
_PROMPT = re.compile(r"(\d\d(?: \d\d)+)>(\d\d):")
_STEP = re.compile(r"(\d\d)([-+*/])(\d\d)=(\d\d) ")


def _written(number: int) -> str:
    return f"{number:02d}"[::-1]


def _combined(a: int, op: str, b: int) -> int | None:
    """The result, or None where the rules forbid it: results lie in 1 to 99, and division is exact."""
    if op == "/" and (b == 0 or a % b):
        return None
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // max(b, 1)}[op]
    return result if 1 <= result <= _LARGEST else None


def _moves(pool: list[int]) -> list[tuple[int, str, int, int]]:
    pairs = [(max(a, b), min(a, b)) for i, a in enumerate(pool) for b in pool[i + 1 :]]
    tried = [(a, op, b, _combined(a, op, b)) for a, b in pairs for op in "+-*/"]
    return [(a, op, b, result) for a, op, b, result in tried if result is not None]


def _after(pool: list[int], move: tuple[int, str, int, int]) -> list[int]:
    left = list(pool)
    left.remove(move[0])
    left.remove(move[2])
    return [*left, move[3]]


def _shown(move: tuple[int, str, int, int]) -> str:
    return f"{_written(move[0])}{move[1]}{_written(move[2])}={_written(move[3])} "


@final
@dataclass(frozen=True)
class Countdown(Generator):
    """Reach a target from numbers, each used once; any way that follows the rules is right.

    A step is `a op b=c` and a space, all numbers two digits, least significant first. The step `< ` takes back the
    last one that stands. The difficulty is how many numbers are given (1 to 9 each).

    Args:
        search: write dead ends and the way back too (up to three), as in traces of a search.

    >>> Countdown().draw(random.Random(0), 3)
    Example(prompt='70 70 10>24:', steps=('70-10=60 ', '70*60=24 '), answer='70-10=60 70*60=24 ', difficulty=3)
    """

    search: bool = False

    alphabet: ClassVar[str] = "0123456789+-*/=><: \n"
    room: ClassVar[tuple[int, int]] = (18, 3 * (4 * 9 + 4 * 2) + 4 * 9 + 1)
    trained: ClassVar[tuple[int, ...]] = (2, 3, 4)
    beyond: ClassVar[tuple[int, ...]] = (5,)
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"search": {"search": True}}

    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """Random numbers, combined at random; what is left is the target."""
        numbers = [rng.randrange(1, 10) for _ in range(difficulty)]
        pools, moves = [numbers], list[tuple[int, str, int, int]]()
        while len(pools[-1]) > 1:
            moves.append(rng.choice(_moves(pools[-1])))
            pools.append(_after(pools[-1], moves[-1]))
        target = pools[-1][0]
        dead_ends = rng.randrange(4) if self.search else 0
        at_level = sorted(rng.randrange(len(moves)) for _ in range(dead_ends))
        steps = list[str]()
        for level, move in enumerate(moves):
            for _ in range(at_level.count(level)):
                steps += _dead_end(rng, pools[level], target)
            steps.append(_shown(move))
        prompt = " ".join(map(_written, numbers)) + ">" + _written(target) + PROMPT_END
        return Example(prompt, tuple(steps), "".join(_shown(m) for m in moves), difficulty)

    def extract(self, response: str) -> str | None:
        """The steps that stand in the end, without those that were taken back."""
        standing = list[str]()
        for step in _split(response):
            if step == _UNDO:
                standing = standing[:-1]
            else:
                standing.append(step)
        return "".join(standing) or None

    def right(self, example: Example, answer: str) -> bool:
        """Whether the steps follow the rules and leave the target alone."""
        parsed = _parsed(example.prompt)
        return parsed is not None and _left(parsed[0], _split(answer)) == [parsed[1]]

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """A step is right if the numbers are at hand and the result is true, whether or not it leads on."""
        parsed = _parsed(prompt)
        if parsed is None:
            return []
        pools: list[list[int] | None] = [parsed[0]]
        verdicts = list[bool]()
        for step in _split(response):
            if step == _UNDO:
                verdicts.append(len(pools) > 1)
                pools = pools[:-1] if len(pools) > 1 else pools
                continue
            pools.append(None if pools[-1] is None else _left(pools[-1], [step]))
            verdicts.append(pools[-1] is not None)
        return verdicts


def _parsed(prompt: str) -> tuple[list[int], int] | None:
    match = _PROMPT.fullmatch(prompt)
    return ([int(word[::-1]) for word in match[1].split()], int(match[2][::-1])) if match else None


def _split(response: str) -> list[str]:
    return [word + " " for word in response.removesuffix(RESPONSE_END).split()]


def _left(pool: list[int], steps: list[str]) -> list[int] | None:
    """The numbers left after some steps, or None if one of them breaks the rules."""
    for step in steps:
        match = _STEP.fullmatch(step)
        if not match:
            return None
        a, b, c = (int(match[i][::-1]) for i in (1, 3, 4))
        if a not in pool or b not in pool or (a == b and pool.count(a) < 2) or _combined(a, match[2], b) != c:
            return None
        pool = _after(pool, (a, match[2], b, c))
    return pool


def _dead_end(rng: random.Random, pool: list[int], target: int) -> list[str]:
    """A way from `pool` to a number other than the target, and back; nothing if chance found the target."""
    start = len(pool)
    steps = list[str]()
    while len(pool) > 1:
        move = rng.choice(_moves(pool))
        pool = _after(pool, move)
        steps.append(_shown(move))
    return [] if pool[0] == target else steps + [_UNDO] * (start - 1)
