"""Steps written out let a transformer do what it cannot do at once: simulate automata, search graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size, Value
from isoflop.claim.tiny_models import share_right, shipped
from isoflop.task.generate import Generator, generator

_CHANCE = {"automata": 0.2, "connectivity": 0.5}
_STEPS_RIGHT = 0.9  # at every trained length; ours
_AT_ONCE = 0.25  # most above chance at the longest trained length; ours
_GUESSING = 0.1  # above chance, and no more than guessing; ours
_PROBLEMS = {"quick": 50, "full": 500}


@final
@dataclass(frozen=True)
class CotPower(Claim):
    """Merrill and Sabharwal 2024: as many steps as the input is long let a transformer recognise all regular languages.

    Without steps it stays in TC0 at best, where the word problem of S5 and reachability in graphs (hard for NC1 and NL)
    are thought not to be. Theorems are about all lengths at once; a trained network can only show them at work: with
    steps, right at all lengths that it was trained on; without, the worse the longer. Both were trained from the same
    distribution of problems, and those without steps at no less compute.
    """

    paper: ClassVar[str] = "The Expressive Power of Transformers with Chain of Thought (arXiv 2310.07923)"
    says: ClassVar[str] = (
        "transformers that answer at once cannot simulate all finite automata, nor decide whether two nodes are "
        "connected; with intermediate steps, linearly many in the input's length, they can"
    )
    tested_by: ClassVar[str] = (
        f"shipped models of two sizes on held-out words of S5 and on graphs, greedy: with steps at least "
        f"{_STEPS_RIGHT:.0%} right at every trained length; without, at most {_AT_ONCE:.0%} above chance at the "
        "longest; what steps gain is larger at the longest length than at the shortest"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: 50 problems a length. Full: 500."""
        return [
            finding
            for task in _CHANCE
            for small_or_large in _sizes(task)
            for finding in _compared(task, small_or_large, _PROBLEMS[size])
        ]


def _sizes(task: str) -> list[str]:
    """The sizes of which both models are shipped."""
    with_, without = ({name.rpartition("-")[2] for name in shipped(variant)} for variant in (task, f"{task}-direct"))
    return sorted(with_ & without, key=lambda words: float(words.removesuffix("k")))


def _compared(task: str, params: str, problems: int) -> list[Finding]:
    with_, without = generator(task), generator(f"{task}-direct")
    return _findings(
        f"{task}, {params} parameters",
        _CHANCE[task],
        list(with_.trained),
        right(f"{task}-{params}", with_, problems),
        right(f"{task}-direct-{params}", without, problems),
    )


def right(name: str, task: Generator, problems: int) -> dict[int, float]:
    """The share of held-out problems of each difficulty that a shipped model gets right, greedily."""
    return {
        difficulty: share_right(
            name,
            task,
            [task.problem("test" if difficulty in task.trained else "harder", i, difficulty) for i in range(problems)],
        )
        for difficulty in (*task.trained, *task.beyond)
    }


def _findings(
    what: str, chance: float, trained: Sequence[int], steps: dict[int, float], at_once: dict[int, float]
) -> list[Finding]:
    shown: dict[str, Value] = {
        "length": [float(d) for d in steps],
        "with_steps": [round(v, 3) for v in steps.values()],
        "at_once": [round(v, 3) for v in at_once.values()],
        "never_trained": ", ".join(str(d) for d in steps if d not in trained),
    }
    least = min(steps[d] for d in trained)
    first, last = trained[0], trained[-1]
    gains: dict[str, Value] = {f"gain_at_{d}": round(steps[d] - at_once[d], 3) for d in (first, last)}
    grows = steps[last] - at_once[last] > steps[first] - at_once[first]
    if not grows and at_once[first] <= chance + _GUESSING:
        gains["why not"] = f"at once nothing is learned at length {first} either, so the gain is whole from there on"
    return [
        Finding(
            f"{what}: with steps at least {_STEPS_RIGHT:.0%} right at every trained length",
            least >= _STEPS_RIGHT,
            shown | ({} if least >= _STEPS_RIGHT else {"why not": "steps are learned only in part at this compute"}),
        ),
        Finding(
            f"{what}: at once at most {_AT_ONCE:.0%} above chance at length {last}",
            at_once[last] <= chance + _AT_ONCE,
            {"chance": chance, "right": round(at_once[last], 3)},
        ),
        Finding(
            f"{what}: steps gain more at length {last} than at {first}",
            grows,
            gains,
        ),
    ]
