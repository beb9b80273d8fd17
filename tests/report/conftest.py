"""A study on the mock, with everything in it that a report has to show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from isoflop.cost import Cost
from isoflop.record import LedgerRow, RunInfo
from isoflop.run import Bench, Study
from isoflop.task import SPLITS, Grader, Question, Questions

HOSTILE = "</script><img src=x onerror=\"document.documentElement.dataset.owned='1'\">$[bold]&amp;"


@dataclass(frozen=True)
class LastWord(Grader):
    def extract(self, text: str) -> str | None:
        return text.split()[-1] if text.split() else None

    def canonical(self, answer: str) -> str:
        return answer


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two models, four methods, both splits."""
    asked = [Question(f"q{i}", f"{i}+1?", str(i + 1), LastWord(), SPLITS[i % 2], i % 3) for i in range(60)]
    bench = Bench(
        Questions("sums", asked),
        ["mock:beta=0.441:0.549,signal=0.2", "mock:p=0.7,parameters=7e9"],
        [
            "single",
            "best_of_n(n=8, batch=2)",
            "best_of_n(n=8, batch=2, value=oracle)",
            "self_consistency(n=8, batch=2)",
        ],
        ["tokens_out=100k", "wall_s=600"],
    )
    return bench.run(tmp_path_factory.mktemp("study") / "store.db")


@pytest.fixture(scope="session")
def hostile(study: Study) -> Study:
    """The same with names and answers that try to be markup, a cost nobody knows, and failures."""

    def named(row):
        return replace(row, model=HOSTILE + row.model)

    records = [replace(named(r), answer=HOSTILE, per_use=replace(r.per_use, usd=math.nan)) for r in study.records]
    records[0] = replace(records[0], status=f"failed: {HOSTILE}", quality=math.nan)
    ledger = [named(r) for r in study.ledger]
    ledger.append(
        LedgerRow(ledger[0].model, ledger[0].method, "judge", 7, 0, 3, *[Cost(tokens_out=9e3, flops=3e12)] * 3)
    )
    graded = [replace(named(g), key=g.key + HOSTILE) for g in study.graded]
    config = study.info.config | {"task": HOSTILE, "models": [HOSTILE]}
    info = replace(study.info, config=config, status=f"stopped: {HOSTILE}")
    return replace(study, info=info, records=records, ledger=ledger, graded=graded)


@pytest.fixture
def empty(study: Study) -> Callable[[], Study]:
    """A run that was stopped before anything came."""

    def make() -> Study:
        info = RunInfo("r0", 0.0, "stopped: interrupted", study.info.config, study.info.provenance, {})
        return replace(study, info=info, records=[], ledger=[], graded=[])

    return make
