"""Numbers decoupled from programs: a model that saw them anew each time does not mind when they change."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar, final

from isoflop.claim.base import Claim, Finding, Size, Value
from isoflop.claim.tiny_models import share_right, shipped
from isoflop.task.generate.chain import Chain

_DROP = 0.05  # most that a robust model loses when numbers change (fraction of problems); ours
_SURE = 1.96  # standard errors
_GAIN = 1.8  # least gain on changed numbers from decoupling; the paper's average relative gains are 185 % and more
_RENUMBERED = {"quick": 1, "full": 8}  # times each problem


@final
@dataclass(frozen=True)
class Infinitymath(Claim):
    """Zhang et al. 2024: numbers decoupled from programs make a data set endless, and models robust to other numbers.

    They fine-tune models of billions of parameters on programs for word problems; here two networks of equal size,
    seed and training compute learn chained arithmetic from scratch: `chain` with numbers drawn anew for every problem,
    `chain-fixed` from 60 problems a difficulty (54 of them in training), numbers as they are.
    """

    paper: ClassVar[str] = (
        "InfinityMATH: A Scalable Instruction Tuning Dataset in Programmatic Mathematical Reasoning (arXiv 2408.07089)"
    )
    says: ClassVar[str] = (
        "training problems made from number-independent programs scale without end; models trained on them gain much "
        "(185 to 514 % on average) and stay right when only the numbers of a problem change"
    )
    tested_by: ClassVar[str] = (
        f"greedy, on the fixed training problems and on the same programs with other numbers: the model trained with "
        f"numbers drawn anew loses at most {_DROP:.0%} of problems and the one trained on fixed numbers more, each but "
        f"for {_SURE} standard errors; on changed numbers the former is right {1 + _GAIN:.1f} times as often or more"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: other numbers once for each of the fixed problems. Full: eight times."""
        params = shipped("chain-fixed")[0].rpartition("-")[2]
        few = Chain(**Chain.variants["fixed"])
        originals = list({e.key: e for e in (few.problem("train", i) for i in range(20 * 300))}.values())
        rng = random.Random(0)
        changed = [few.renumbered(e, rng) for _ in range(_RENUMBERED[size]) for e in originals]
        found = {
            name: (share_right(name, few, originals), share_right(name, few, changed))
            for name in (f"chain-{params}", f"chain-fixed-{params}")
        }
        return _findings(found, len(originals), len(changed))


def _findings(found: dict[str, tuple[float, float]], originals: int, others: int) -> list[Finding]:
    (anew, (kept, robust)), (fixed, (learned, changed)) = found.items()
    shown: dict[str, Value] = {
        f"{name}_{what}": round(value, 4)
        for name, values in found.items()
        for what, value in zip(("fixed_numbers", "changed_numbers"), values)
    }
    errors = {name: (a * (1 - a) / originals + b * (1 - b) / others) ** 0.5 for name, (a, b) in found.items()}
    shown |= {f"{name}_error_of_the_difference": round(error, 4) for name, error in errors.items()}
    gain = robust / max(changed, 1 / others)  # none right is taken for one
    return [
        Finding(
            f"{anew}, numbers anew: changing them costs at most {_DROP:.0%} of problems",
            kept - robust - _SURE * errors[anew] <= _DROP,
            shown,
        ),
        Finding(
            f"{fixed}, {originals} fixed problems: changing the numbers costs more than that",
            learned - changed - _SURE * errors[fixed] > _DROP,
            {"lost": round(learned - changed, 4)},
        ),
        Finding(
            f"on changed numbers {anew} is right at least {1 + _GAIN:.1f} times as often as {fixed}",
            gain >= 1 + _GAIN,
            {"times_at_least" if changed == 0 else "times": round(gain, 3)},
        ),
    ]
