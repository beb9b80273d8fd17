"""The rows a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from isoflop.cost import FREE, Cost, Role

UNJUDGED = "failed: grader: "
"""How the status of an answer begins that its grader could not judge: neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of one method on one problem: a point of its curve.

    Args:
        model: specification of the model that did the work; empty where the family has none.
        method: the method with its hyper-parameters, as `best_of_n(n=16)`.
        task: name of the task.
        key: the problem.
        split: `dev` or `test`.
        seed: the run's seed.
        step: 0, 1, ... along the curve of this model, method and problem.
        once: what was paid once (zero for search).
        per_use: what was spent on this problem up to this answer, replayed samples charged in full.
        quality: the score of the answer, higher is better; NaN where there is no answer to score.
        status: `ok`, `skipped: why` or `failed: why`.
        answer: what was answered.
        confidence: the method's own belief (0 to 1) that the answer is right; NaN where it has none.
    """

    model: str
    method: str
    task: str
    key: str
    split: str
    seed: int
    step: int
    once: Cost
    per_use: Cost
    quality: float
    status: str = "ok"
    answer: str = ""
    confidence: float = float("nan")

    @property
    def unjudged(self) -> bool:
        """Whether the grader could not tell: neither right nor wrong."""
        return self.status.startswith(UNJUDGED)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one role of one method spent.

    Args:
        model: specification of the model.
        method: the method with its hyper-parameters; empty for what no method received.
        role: what it was spent on.
        samples: how many samples (count).
        shared: how many of them another method of the same run had drawn before (count).
        replayed: how many of the rest came from an earlier run (count).
        charged: cost of all of them: what the curves show.
        budgeted: cost of those that no other method of the run had drawn: what the budget saw.
        paid: cost of those that were neither shared nor replayed: what this run spent anew.
    """

    model: str
    method: str
    role: Role
    samples: int = 0
    shared: int = 0
    replayed: int = 0
    charged: Cost = FREE
    budgeted: Cost = FREE
    paid: Cost = FREE


@dataclass(frozen=True, slots=True)
class Graded:
    """How often a problem's independent samples were right: n drawn, c of them right.

    Args:
        model: specification of the model.
        key: the problem.
        split: `dev` or `test`.
        level: difficulty as the task states it, if it does.
        n: samples graded (count).
        c: samples that scored 1 (count).
    """

    model: str
    key: str
    split: str
    level: int | None
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as the list of runs shows it.

    Args:
        run: its identifier.
        created: when it was started (seconds since the epoch).
        status: `running`, `done`, or `stopped: why`.
        config: all that it was asked; enough to run it again.
        provenance: versions, git state, machine, model digests, prices used.
        outcome: totals at its end: elapsed seconds, overshoot by axis.
    """

    run: str
    created: float
    status: str
    config: dict[str, object]
    provenance: dict[str, object]
    outcome: dict[str, object] = field(default_factory=dict[str, object])
