"""Leaving tokens out of a trained state space model, with and without its state running on."""

from __future__ import annotations

from functools import partial

from isoflop.claim.base import Finding, Value
from isoflop.claim.network import contest
from isoflop.claim.network.contest import Result, as_good_as, seeded, shrunk_by, tested, trained, with_inputs
from isoflop.claim.network.vision import state_space
from isoflop.example import digits
from isoflop.method.conditional.ssm_token_pruning import SsmTokenPruning

_KEPT = 0.62  # at each of two depths: 0.6 of the FLOPs
_SAVED, _LOSS = 0.4, 0.01
_NARROW = {"width": 19, "inner": 36}  # about as cheap as the pruned model


def findings(steps: int, tuning: int, images: int) -> list[Finding]:
    """Prune one trained model in all ways; train a narrower one for the same FLOPs."""
    work = with_inputs(digits.workload(), lambda x: x, contest.TRAIN, images)
    model = seeded(state_space)
    once = trained(model, work, steps)
    whole = tested(model, work, once)
    ways = {
        "aligned": SsmTokenPruning(),
        "plainly dropped": SsmTokenPruning(aligned=False),
        "aligned, at random": SsmTokenPruning(by="random"),
    }
    results: dict[str, dict[str, Result]] = {}
    for name, more in (("untrained", 0), ("trained", tuning)):
        results[name] = {
            way: shrunk_by(SsmTokenPruning((_KEPT,), steps=more, aligned=m.aligned, by=m.by), model, work, once)[0]
            for way, m in ways.items()
        }
    ours = results["trained"]["aligned"]
    narrow = as_good_as(partial(state_space, **_NARROW), work, ours.once)
    saved = 1 - ours.flops / whole.flops
    figures: dict[str, Value] = {"whole [accuracy, Mflop a use, once]": whole.figures(), "narrower": narrow.figures()}
    for name, by_way in results.items():
        figures |= {f"{way}, {name}": r.figures() for way, r in by_way.items()}
    loss = whole.above(ours)
    found = [
        contest.has_learnt(whole),
        Finding(
            f"{_SAVED:.0%} of the FLOPs saved at no more than {_LOSS:.0%} of accuracy lost, after tuning",
            abs(saved - _SAVED) <= 0.02 and loss[1] <= _LOSS,
            figures | {"saved": round(saved, 4), "lost [low, mean, high]": loss},
        ),
    ]
    for name, by_way in results.items():
        gain = by_way["aligned"].above(by_way["plainly dropped"])
        found.append(Finding(f"aligned above plainly dropped, {name}", gain[0] > 0, {"gain [low, mean, high]": gain}))
    for what, other in (
        ("tokens left out at random", results["trained"]["aligned, at random"]),
        ("a narrower model", narrow),
    ):
        gain = ours.above(other)
        found.append(Finding(f"above {what}, at equal cost", gain[0] > 0, {"gain [low, mean, high]": gain}))
    return found
