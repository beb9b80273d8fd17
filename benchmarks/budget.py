"""Two budgets at once on a run of 200 concurrent samples: by how much is either exceeded?

    python -m benchmarks.budget

Three ways to estimate: an upper bound of a call's cost (what every model gives), so that nothing is ever exceeded; and
estimates that are a twentieth of that and nothing at all, for which the overshoot must be no more than what
was in flight.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import final

from benchmarks.sums import sums
from isoflop.cost import Cost
from isoflop.method.search.best_of_n import BestOfN
from isoflop.model.base import LM, Request, Sample
from isoflop.model.mock import Machine, Mock, Skill
from isoflop.run import Bench

WAYS, LIMITS = 200, ("tokens_out=3k", "flops=7e12")


@final
class Guessing(LM):
    """A mock that estimates `share` of what its calls can cost at most."""

    def __init__(self, share: float) -> None:
        self.mock = Mock(Skill(steps=3), machine=Machine(latency_s=0.002, jitter_s=0.01, concurrency=WAYS))
        self.share, self.concurrency = share, WAYS
        self.name = self.digest = f"guessing {share:g}"

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        await self.mock.generate(request, arrived)

    def estimate(self, request: Request) -> Cost:
        return self.mock.estimate(request).times(self.share)


def main() -> None:
    """Print the overshoot of each budget."""
    print(f"{'estimate':24} {'axis':12} {'limit':>10} {'spent':>12} {'overshoot':>12}")
    for share in (1.0, 0.05, 0.0):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(sums(400), [Guessing(share)], [BestOfN(n=64, batch=1)], LIMITS)
            study = bench.run(Path(folder) / "store.db")
        spent, over = study.info.outcome["spent"], study.info.outcome["overshoot"]
        for words in LIMITS:
            axis, _, limit = words.partition("=")
            name = "an upper bound" if share == 1 else f"{share:.0%} of it"
            print(f"{name:24} {axis:12} {limit:>10} {spent[axis]:12.4g} {over[axis]:12.4g}")


if __name__ == "__main__":
    main()
