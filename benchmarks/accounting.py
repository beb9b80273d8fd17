"""Tokens reported against tokens served, by role, on a clean and a faulty server: the matrix of anchors 3c.

    python -m benchmarks.accounting

The server knows what it served, and from the prompt for which role. Faulty means: every 9th call answered 500, every
13th 429, every 17th served and then dropped without an answer, every 5th cut off. Reported is what the run's ledger
says was paid. Tools of the field report 0.00 to 1.00 of the served tokens in such cases (its-hub with a judge 0.50,
optillm 0.38-0.50; anchors 3c); here every row must read exactly 1.000.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.sums import sums
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.problem import SearchMethod
from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.method.search.stop.confident import Confident
from isoflop.method.search.value.judge import Judge
from isoflop.method.search.weighted_vote import WeightedVote
from isoflop.model.endpoint import Endpoint, Options, Patience
from isoflop.model.mock import Machine, Mock, Skill
from isoflop.run import Bench, Study
from isoflop.testing.server import Server, ServerFaults

FAULTY = ServerFaults(error_every=9, limit_every=13, drop_every=17, truncate_every=5)
QUICK = Patience(backoff_s=0.002)
ROLES = ("generate", "judge", "retry", "cancelled")


@dataclass(frozen=True)
class Case:
    """One row of the matrix.

    Args:
        name: what it shows.
        methods: what runs.
        options: how the endpoint asks.
        budgets: of the run.
        interrupt_after: calls after which the run is interrupted as by Ctrl-C; 0 never.
    """

    name: str
    methods: Sequence[SearchMethod]
    options: Options = Options(concurrency=16)
    budgets: Sequence[str] = ()
    interrupt_after: int = 0


CASES = (
    Case("self-consistency N=32", [SelfConsistency(n=32)]),
    Case("adaptive consistency N<=64", [SelfConsistency(n=64, stop=Confident())]),
    Case("best of 16 with a judge", [BestOfN(n=16, value=Judge())]),
    Case("weighted vote with a judge", [WeightedVote(n=16, value=Judge())]),
    Case("three methods share samples", [SelfConsistency(n=32), BestOfN(n=16), WeightedVote(n=16, value=Judge())]),
    Case("8 samples a call", [SelfConsistency(n=32, batch=16)], Options(concurrency=16, n=8)),
    Case("completions API", [SelfConsistency(n=32)], Options(concurrency=16, api="completions")),
    Case("a budget that runs out", [SelfConsistency(n=64)], budgets=["tokens_out=2500"]),
    Case("interrupted", [SelfConsistency(n=256)], interrupt_after=300),
)


@dataclass(frozen=True)
class Row:
    """What came out.

    Args:
        served: prompt and generated tokens the server served (counts).
        reported: the same as the ledger has them.
        by_role: generated tokens reported by role (counts).
        judge_served: generated tokens the server served to the judge (count).
        retry_served: generated tokens it served and then dropped (count).
    """

    served: tuple[float, float]
    reported: tuple[float, float]
    by_role: dict[str, float]
    judge_served: float
    retry_served: float

    @property
    def exact(self) -> bool:
        """Whether all agrees: the sums, the judge's part and the retries'."""
        roles = self.by_role["judge"] + 0.0, self.by_role["retry"]
        return self.served == self.reported and roles == (self.judge_served, self.retry_served)


def measure(case: Case, faults: ServerFaults, folder: Path, patience: Patience = QUICK) -> Row:
    """Run one case against a server with these faults."""
    questions = sums(12)
    mock = Mock(Skill(p=0.4, steps=2), machine=Machine(latency_s=0.001, jitter_s=0.004, concurrency=1000))
    mock.know({q.prompt: q.answer for q in questions.questions if isinstance(q.prompt, str)})
    with Server(mock, faults) as server:
        lm = Endpoint(server.url, "m", case.options, patience)
        bench = Bench(questions, [lm], list(case.methods), list(case.budgets))
        if case.interrupt_after:
            threading.Thread(target=interrupt, args=(server, case.interrupt_after), daemon=True).start()
        study = bench.run(folder / "store.db")
    by_role = {role: paid(study, role)[1] for role in ROLES}
    reported = [paid(study, role) for role in {row.role for row in study.ledger}]
    dropped = [s for s in server.served if s.outcome == "dropped"]
    return Row(
        server.tokens(),
        (sum(tokens_in for tokens_in, _ in reported), sum(tokens_out for _, tokens_out in reported)),
        by_role,
        server.tokens("judge")[1] - sum(s.tokens_out for s in dropped if s.role == "judge"),
        sum(s.tokens_out for s in dropped),
    )


def paid(study: Study, role: str) -> tuple[float, float]:
    """Prompt and generated tokens that the ledger says were paid for a role."""
    costs = [row.paid for row in study.ledger if row.role == role]
    return sum(c.tokens_in + c.tokens_cached for c in costs), sum(c.tokens_out for c in costs)


def interrupt(server: Server, after: int) -> None:
    """Press Ctrl-C, once the server has had so many calls."""
    while len(server.served) < after:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    print(f"{'case':30}{'server':>8}{'in':>7}{'out':>7}  " + "".join(f"{role:>11}" for role in ROLES))
    exact = True
    for case in CASES:
        for name, faults in (("clean", ServerFaults()), ("faulty", FAULTY)):
            with tempfile.TemporaryDirectory() as folder:
                row = measure(case, faults, Path(folder))
            ratios = "".join(f"{a / b:7.3f}" for a, b in zip(row.reported, row.served, strict=True))
            split = "".join(f"{row.by_role[role]:11.0f}" for role in ROLES)
            print(f"{case.name:30}{name:>8}{ratios}  {split}{'' if row.exact else '   NOT EXACT'}", flush=True)
            exact &= row.exact
    print("\nreported / served, of prompt and of generated tokens; then generated tokens reported, by role")
    if exact:
        print("the judge's and the retries' parts equal what the server served to them")
    with tempfile.TemporaryDirectory() as folder:
        row = measure(CASES[0], ServerFaults(hang_every=40), Path(folder), replace(QUICK, timeout_s=1.0))
    print("\nA call that hangs is charged as what came in its place, as nobody knows its cost (lost=unknown: NaN).")
    print(f"This server had served nothing to them; every 40th call hangs: {row.reported[1] / row.served[1]:.3f}")
    sys.exit(not exact)


if __name__ == "__main__":
    main()
