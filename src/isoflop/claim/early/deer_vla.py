"""Exits by consistency under budgets on mean and memory, in a policy that steers; by confidence, in one that reads."""

from __future__ import annotations

from dataclasses import replace

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.early import steering
from isoflop.claim.early.compare import both, digit_reader, left_at, left_with, made, point
from isoflop.cost.ops import stored_bytes
from isoflop.method.conditional.deer_vla import DeerVla
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.conditional.multi_exit import MultiExit

_SAVED, _MEMORY = 5.2, 2.0  # times less compute and memory, the paper's smaller figures
_OFF = 0.05  # of a budget
_EQUAL, _THIRD = 0.005, 0.34  # of the accuracy on digits (two standard errors of 2000), and of the FLOPs


def findings(size: Size) -> list[Finding]:
    """Compare the rule with the whole policy, with lots, and with a smaller policy; then confidence on digits."""
    return [*_steered(size), *_read(size)]


def _steered(size: Size) -> list[Finding]:
    blocks, demonstrated, base, tuned, count = (
        (12, 10_000, 400, 200, 500) if size == "quick" else (16, 20_000, 1500, 2500, 2000)
    )
    budgets = (0.5, 0.3, 1 / _SAVED) if size == "quick" else (0.75, 0.5, 0.4, 0.3, 0.25, 0.2, 1 / _SAVED)
    work, start = steering.workload(demonstrated), steering.scenes(count, 5)
    first = steering.training_flops(blocks, base)
    module = steering.trained(blocks, work.calibration, first)
    method = DeerVla(budgets=budgets, exits=blocks - 1, steps=tuned, trained_trunk=True)
    points, once = made(method, module, work)
    models = [shrunk.module for shrunk in points if isinstance(shrunk.module, EarlyExit)]
    wholes = [steering.driven(net, start) for net in (module, models[0].trunk)]
    whole = max(wholes, key=lambda w: w.success)
    measured: dict[str, Value] = {"whole, success": wholes[0].success, "trained with exits, success": wholes[1].success}
    off: dict[str, Value] = {}
    lots: dict[str, Value] = {}
    above = True
    least = wholes[1]
    for budget, model in zip(sorted(budgets, reverse=True), models, strict=True):
        ruled, lot, shares = left_with(model, work, work.test)
        drove, by_lot = (steering.driven_early(model, start, s) for s in (None, shares))
        cost = drove.flops / whole.flops
        measured[f"success at {cost:.3f}x"] = drove.success
        off[f"off at {budget:.3g}x"] = round(cost / budget - 1, 4)
        errors = [round(-ruled.quality, 5), round(-lot.quality, 5)]
        lots[f"{budget:.3g}x: error of rule and lot, success of both"] = [*errors, drove.success, by_lot.success]
        above = above and ruled.quality > lot.quality
        least = drove if drove.as_good_as(whole) else least
    measured["least cost at equal success"] = round(least.flops / whole.flops, 3)
    half = made(replace(method, budgets=(1.0,), memory=1 / _MEMORY), module, work)[0][0].module
    memory, cut = stored_bytes(module) / stored_bytes(half), steering.driven(half, start)
    few = max(1, round(least.flops / whole.flops * blocks))
    small = steering.driven(steering.trained(few, work.calibration, first + once), start)
    return [
        Finding(
            f"at equal success (within {steering.EQUAL}) consistency takes at least {_SAVED} times fewer FLOPs",
            least.as_good_as(whole) and least.flops <= whole.flops / _SAVED * (1 + _OFF),
            measured,
        ),
        Finding(
            "the realised mean in episodes is within 5 % of each budget",
            all(abs(float(str(v))) <= _OFF for v in off.values()),
            off,
        ),
        Finding("at each budget its actions are better than those at the same exits by lot as often", above, lots),
        Finding(
            f"at {_MEMORY:g} times less memory it keeps success (within {steering.EQUAL})",
            memory >= _MEMORY and cut.as_good_as(whole),
            {"times less memory": round(memory, 2), "success": cut.success},
        ),
        Finding(
            "it succeeds no less often than a policy of about that cost, trained from scratch for as many FLOPs in all",
            least.success >= small.success,
            {
                "success by consistency": least.success,
                f"success of {few} blocks": small.success,
                "their FLOPs": round(small.flops / whole.flops, 3),
                "FLOPs: of the whole policy's training, of exits": [first, once],
            },
        ),
    ]


def _read(size: Size) -> list[Finding]:
    """The contrast: classes have a confidence, which is the better rule for them; the trunk stays as it is."""
    module, work = digit_reader()
    unseen = both(work.dev, work.test)
    whole = point(module, work, unseen, 5)
    budgets, steps = ((0.33,), 150) if size == "quick" else ((0.5, 0.33, 0.3, 0.265, 0.2), 600)
    measured: dict[str, Value] = {"whole accuracy": whole.quality}
    off: dict[str, Value] = {}
    least = 1.0
    for budget, shrunk in zip(budgets, made(MultiExit(budgets=budgets, steps=steps), module, work)[0], strict=True):
        model = shrunk.module
        assert isinstance(model, EarlyExit)
        found, _ = left_at(model, work, unseen)
        cost = found.flops / whole.flops
        measured[f"accuracy at {cost:.3f}x"] = found.quality
        off[f"off at {budget:g}x"] = round(cost / budget - 1, 4)
        least = min(least, cost) if found.quality >= whole.quality - _EQUAL else least
    return [
        Finding(
            f"digits, by confidence: equal accuracy (within {_EQUAL}) at no more than {_THIRD}x of the FLOPs",
            least <= _THIRD,
            measured | {"least cost": round(least, 3)},
        ),
        Finding(
            "digits, by confidence: the realised mean on held-out images is within 5 % of each budget",
            all(abs(float(str(v))) <= _OFF for v in off.values()),
            off,
        ),
    ]
