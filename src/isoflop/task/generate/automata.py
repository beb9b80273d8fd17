"""Finite automata: where does a word lead? Answered at once, or state by state."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from isoflop.task.generate.base import PROMPT_END, RESPONSE_END, Example, Generator

_MOVES = {"a": "12340", "b": "10234", "c": "12043", "d": "31402"}
"""Where each letter leads from the states 0 to 4: a five-cycle and a transposition, which generate S5, and two more."""
_PROMPT = re.compile(r"([0-4])([abcd]+):")


@final
@dataclass(frozen=True)
class Automata(Generator):
    """The word problem of S5 on five points: a start state, a word, the state it leads to.

    The letters' permutations generate a group that is not solvable, so no network of constant depth can answer for
    all lengths at once (unless TC0 = NC1), while a step for each letter makes the problem trivial. The difficulty is
    the length of the word.

    Args:
        steps: write the state after every letter; without it, the last one only.

    >>> Automata().draw(random.Random(0), 4)
    Example(prompt='3dacd:', steps=('0', '1', '2', '4'), answer='4', difficulty=4)
    """

    steps: bool = True

    alphabet: ClassVar[str] = "01234abcd:\n"
    room: ClassVar[tuple[int, int]] = (18, 17)
    trained: ClassVar[tuple[int, ...]] = (2, 4, 6, 8, 10, 12)
    beyond: ClassVar[tuple[int, ...]] = (14, 16)
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"direct": {"steps": False}}

    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """A start state and `difficulty` letters, all equally likely."""
        start, word = str(rng.randrange(5)), "".join(rng.choice("abcd") for _ in range(difficulty))
        states = _states(start, word)
        steps = tuple(states) if self.steps else (states[-1],)
        return Example(start + word + PROMPT_END, steps, states[-1], difficulty)

    def extract(self, response: str) -> str | None:
        """The last state."""
        return response.removesuffix(RESPONSE_END)[-1:] or None

    def right(self, example: Example, answer: str) -> bool:
        """Whether the word leads to `answer`."""
        return answer == example.answer

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """A state is right if its letter leads to it from the state before it, which itself may be wrong."""
        match = _PROMPT.fullmatch(prompt)
        written = response.removesuffix(RESPONSE_END)
        if not match:
            return []
        if not self.steps:
            last = _states(match[1], match[2])[-1]
            return [i == 0 and state == last for i, state in enumerate(written)]
        before = match[1] + written
        return [
            i < len(match[2]) and before[i] in "01234" and state == _MOVES[match[2][i]][int(before[i])]
            for i, state in enumerate(written)
        ]


def _states(start: str, word: str) -> list[str]:
    states = [start]
    for letter in word:
        states.append(_MOVES[letter][int(states[-1])])
    return states[1:]
