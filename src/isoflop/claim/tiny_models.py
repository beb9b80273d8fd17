"""What the shipped tiny models answer, and how they learned: claims are tested on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from isoflop.claim.torch_only import imported
from isoflop.task.generate import Example, Generator

CURVES = Path(__file__).parents[1] / "model" / "tiny" / "weights"
"""Where `<model>.curve.jsonl` lies for each; to read them takes no torch."""


def shipped(task: str) -> list[str]:
    """The models of a task, smaller ones first."""
    known = [path.name.removesuffix(".curve.jsonl") for path in CURVES.glob(f"{task}-*.curve.jsonl")]
    sizes = {name: name.removeprefix(f"{task}-") for name in known}
    return sorted((n for n, size in sizes.items() if "-" not in size), key=lambda n: float(sizes[n].removesuffix("k")))


def answers(name: str, prompts: Sequence[str]) -> list[str]:
    """A model's greedy responses.

    Raises:
        CouldNotRunError: there is no torch to compute with.
    """
    return imported("isoflop.model.tiny.ship", "tiny").answered(_decoder(name), prompts)


def share_right(name: str, task: Generator, asked: Sequence[Example]) -> float:
    """The share of problems that a model gets right, greedily."""
    return sum(map(task.grade, asked, answers(name, [e.prompt for e in asked]))) / len(asked)


@cache
def _decoder(name: str) -> Any:
    return imported("isoflop.model.tiny.weights", "tiny").read(name)[0]
