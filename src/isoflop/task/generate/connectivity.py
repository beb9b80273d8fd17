"""Reachability in a directed graph: is there a path? Answered at once, or by a search written out."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from isoflop.task.generate.base import PROMPT_END, RESPONSE_END, Example, Generator

_NODES = "abcdefgh"
_PROMPT = re.compile(r"((?:[a-h]{2} )+)([a-h])([a-h]):")


@final
@dataclass(frozen=True)
class Connectivity(Generator):
    """Whether the last node of a prompt can be reached from the one before it, along edges written as pairs.

    The steps are the nodes reached, in the order of a breadth-first search that takes edges as they are listed; then
    `y` or `n`. The difficulty is the number of nodes. Half of the answers are `y`.

    Args:
        steps: write the nodes reached; without it, the answer only.

    >>> Connectivity().draw(random.Random(3), 4)
    Example(prompt='cd ad bd cb ac bc ab:', steps=('d', 'c', 'b', 'y'), answer='y', difficulty=4)
    """

    steps: bool = True

    alphabet: ClassVar[str] = _NODES + "yn :\n"
    room: ClassVar[tuple[int, int]] = (3 * 12 + 3, 10)
    trained: ClassVar[tuple[int, ...]] = (3, 4, 5, 6)
    beyond: ClassVar[tuple[int, ...]] = (7, 8)
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"direct": {"steps": False}}

    def draw(self, rng: random.Random, difficulty: int) -> Example:
        """A random graph with 1.5 edges a node, and two of its nodes such that both answers are as likely."""
        nodes = _NODES[:difficulty]
        wanted = rng.random() < 0.5
        while True:
            pairs = [a + b for a in nodes for b in nodes if a != b]
            edges = rng.sample(pairs, min(len(pairs), difficulty * 3 // 2))
            start, end = rng.sample(nodes, 2)
            reached = _reached(edges, start)
            if (end in reached) == wanted:
                break
        answer = "y" if wanted else "n"
        shown = reached[: reached.index(end) + 1] if wanted else reached
        prompt = "".join(f"{edge} " for edge in edges) + start + end + PROMPT_END
        return Example(prompt, (*shown, answer) if self.steps else (answer,), answer, difficulty)

    def extract(self, response: str) -> str | None:
        """The verdict at the end."""
        last = response.removesuffix(RESPONSE_END)[-1:]
        return last if last in ("y", "n") else None

    def right(self, example: Example, answer: str) -> bool:
        """Whether `answer` is the truth."""
        return answer == example.answer

    def check_steps(self, prompt: str, response: str) -> list[bool]:
        """A node is right if an edge leads to it from one seen before and it is new; a verdict, if it is the truth."""
        parsed = _parsed(prompt)
        if parsed is None:
            return []
        edges, start, end = parsed
        seen, verdicts = start, list[bool]()
        for step in response.removesuffix(RESPONSE_END):
            if step in ("y", "n"):
                verdicts.append((step == "y") == (end in _reached(edges, start)))
            else:
                verdicts.append(step not in seen and any(a + step in edges for a in seen))
                seen += step
        return verdicts


def _parsed(prompt: str) -> tuple[list[str], str, str] | None:
    match = _PROMPT.fullmatch(prompt)
    return (match[1].split(), match[2], match[3]) if match else None


def _reached(edges: list[str], start: str) -> str:
    """The nodes that can be reached, the start not among them, nearest first."""
    seen, at = start, 0
    while at < len(seen):
        seen += "".join(dict.fromkeys(b for a, b in edges if a == seen[at] and b not in seen))
        at += 1
    return seen[1:]
