"""Kill a run with SIGKILL at random instants, again and again, and see what was lost and what was paid twice.

    python -m benchmarks.crash [kills]

A child process runs a bench on a mock with latency, writing down every sample at the moment it is drawn, which is when
a server would charge for it. The parent kills it, restarts it, and in the end compares: what was in the store when the
child died must never be drawn again, what was drawn and not kept must have been in flight, and the records must equal
those of a run that nobody killed.

In flight is what was asked for and not yet in the store. No client can keep an answer that a server has charged for and
that has not come; one that has come is written at once, or, when another was written less than 2 ms ago, after these
2 ms (`scheduler.WRITE_EVERY_S`). How long before a kill the oldest sample lost to it was drawn is printed: this mock
answers 2000 times a second, so that there nearly always is one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from benchmarks.sums import sums
from isoflop.cost import Cost
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.model.base import LM, Request, Sample
from isoflop.model.mock import Machine, Mock, Skill
from isoflop.record import Store
from isoflop.run import Bench, Study

PROBLEMS, SAMPLES = 60, 40


@final
class Noting(LM):
    """A mock that writes down each sample as it is drawn, in a file that a crash of the process does not touch."""

    def __init__(self, log: Path) -> None:
        self.mock = Mock(Skill(), machine=Machine(latency_s=0.004, jitter_s=0.004))
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.name, self.digest, self.concurrency = "noting", "noting", 16

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        keys = request.sample_keys(self.digest)

        def note(slot: int, sample: Sample) -> None:
            os.write(self.log, f"{keys[slot].hex()} {time.monotonic()}\n".encode())
            arrived(slot, sample)

        await self.mock.generate(request, note)

    def estimate(self, request: Request) -> Cost:
        return self.mock.estimate(request)


def child(store: Path, log: Path) -> None:
    """Start the run, or go on with it."""
    methods = [BestOfN(n=SAMPLES, batch=2), SelfConsistency(n=SAMPLES)]
    with Store(store) as opened:
        begun = [r.run for r in opened.runs()]
    bench = Bench(sums(PROBLEMS), [Noting(log)], methods, budgets=["tokens_out=2200"])
    bench.run(store, resume=begun[0] if begun else None)


@dataclass(frozen=True)
class Outcome:
    """What the kills did.

    Args:
        kills: how often the run was killed (count).
        kept: samples in the store at the end (count).
        drawn_again_though_kept: samples drawn although the store had them (count).
        lost_in_flight: samples drawn and not kept when the process died (count).
        most_lost_at_once: by one kill (count).
        oldest_lost_ms: the longest that a lost sample was drawn before the kill (milliseconds).
        same_records: whether the records equal those of a run nobody killed.
        paid_in_ledger: samples that the ledger says this run paid (count).
    """

    kills: int
    kept: int
    drawn_again_though_kept: int
    lost_in_flight: int
    most_lost_at_once: int
    oldest_lost_ms: float
    same_records: bool
    paid_in_ledger: int


def survive(kills: int, folder: Path, rng: random.Random) -> Outcome:
    """Kill a run `kills` times at random instants, let it end, and compare it with one that was left alone."""
    store, log = folder / "killed.db", folder / "killed.log"
    again = 0
    lost: list[int] = []
    oldest_s = 0.0
    for _ in range(kills):
        before, noted = _kept(store), _notes(log)
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.crash", "--child", str(store), str(log)])
        while process.poll() is None and not len(_notes(log)) > len(noted):
            time.sleep(0.002)  # until it draws: kills before that hit nothing but imports
        time.sleep(rng.random() * 1.6 / kills)
        killed_s = time.monotonic()
        process.kill()
        process.wait()
        after, new = _kept(store), _notes(log)[len(noted) :]
        again += sum(key in before for key, _ in new)
        ages_s = [killed_s - drawn_s for key, drawn_s in new if key not in after]
        lost.append(len(ages_s))
        oldest_s = max(oldest_s, *ages_s, 0.0)
    child(store, log)
    child(folder / "alone.db", folder / "alone.log")
    with Store(store) as killed, Store(folder / "alone.db") as alone:
        studies = Study.load(killed), Study.load(alone)
    kept = _kept(store)
    assert sum(lost) == len(_notes(log)) - len(kept)  # every draw beyond those kept was lost to a kill
    paid = sum(row.samples - row.shared - row.replayed for row in studies[0].ledger)
    rows = [[(r.method, r.key, r.step, r.answer, r.quality, r.per_use) for r in s.records] for s in studies]
    return Outcome(kills, len(kept), again, sum(lost), max(lost), 1e3 * oldest_s, rows[0] == rows[1], paid)


def _notes(log: Path) -> list[tuple[str, float]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [(key, float(drawn_s)) for key, drawn_s in map(str.split, lines)]


def _kept(store: Path) -> set[str]:
    if not store.exists():
        return set()
    with Store(store) as opened:
        return {row[0].hex() for row in opened._db.execute("SELECT sample FROM samples")}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        outcome = survive(kills, Path(folder), random.Random(0))
    for name in Outcome.__dataclass_fields__:
        print(f"{name:26} {getattr(outcome, name)}")


if __name__ == "__main__":
    main()
