"""One trunk, a gate for each price of compute: in a policy that steers, and in a reader of digits."""

from __future__ import annotations

import numpy as np

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.early import steering
from isoflop.claim.early.compare import digit_reader, left_at, left_with, point
from isoflop.cost import Meter
from isoflop.method.conditional.eco_m2f import EcoM2f
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.shrink import Original, digest

_EQUAL = 0.01  # of the accuracy on digits
_SAVED = 0.9  # of the FLOPs; the paper's encoders save 10 to 30 %


def findings(size: Size) -> list[Finding]:
    """Compare the gate with the whole policy, with lots, and with a smaller policy; full: with a reader of digits."""
    found = _steered(size)
    return found if size == "quick" else [*found, _read()]


def _steered(size: Size) -> list[Finding]:
    blocks, demonstrated, base, tuned, count = (
        (8, 10_000, 700, 350, 500) if size == "quick" else (16, 20_000, 1500, 2500, 2000)
    )
    betas = (0.01, 0.03) if size == "quick" else (0.003, 0.01, 0.03, 0.1, 0.3)
    work, start = steering.workload(demonstrated), steering.scenes(count, 5)
    first = steering.training_flops(blocks, base)
    module = steering.trained(blocks, work.calibration, first)
    method = EcoM2f(betas=betas, exits=blocks - 1, steps=tuned, gate_steps=tuned, trained_trunk=True)
    meter = Meter()
    models: list[EarlyExit] = []
    spent: list[float] = []
    for shrunk in method.run(Original(module, work, meter, module), meter, np.random.default_rng(0)):
        assert isinstance(shrunk.module, EarlyExit)
        models.append(shrunk.module)
        spent.append(meter.spent.flops)
    wholes = [steering.driven(net, start) for net in (module, models[0].trunk)]
    whole = max(wholes, key=lambda w: w.success)
    measured: dict[str, Value] = {"whole, success": wholes[0].success, "trained with exits, success": wholes[1].success}
    lots: dict[str, Value] = {}
    costs: list[float] = []
    above = True
    least = wholes[1]
    for beta, model in zip(betas, models, strict=True):
        gated, lot, shares = left_with(model, work, work.test)
        drove, by_lot = (steering.driven_early(model, start, s) for s in (None, shares))
        costs.append(round(drove.flops / whole.flops, 3))
        measured[f"beta {beta:g}: FLOPs, success"] = [costs[-1], drove.success]
        errors = [round(-gated.quality, 5), round(-lot.quality, 5)]
        lots[f"beta {beta:g}: error of gate and lot, success of both"] = [*errors, drove.success, by_lot.success]
        above = above and gated.quality > lot.quality
        least = drove if drove.as_good_as(whole) else least
    few = max(1, round(least.flops / whole.flops * blocks))
    small = steering.driven(steering.trained(few, work.calibration, first + spent[0]), start)
    return [
        Finding(
            f"at equal success (within {steering.EQUAL}) the gate saves at least {1 - _SAVED:.0%} of the FLOPs",
            least.as_good_as(whole) and least.flops <= _SAVED * whole.flops,
            measured | {"least cost at equal success": round(least.flops / whole.flops, 3)},
        ),
        Finding(
            "another price changes the gate only and moves the cost",
            len({(digest(m.trunk), digest(m.heads)) for m in models}) == 1
            and len({digest(m.rule) for m in models}) == len(models)
            and costs[-1] < costs[0],
            {
                "trunks": len({digest(m.trunk) for m in models}),
                "gates": len({digest(m.rule) for m in models}),
                "FLOPs": costs,
                "FLOPs once: first price, each other": [spent[0], spent[1] - spent[0]],
            },
        ),
        Finding("at each price its actions are better than those at the same depths by lot as often", above, lots),
        Finding(
            "it succeeds no less often than a policy of about that cost, trained from scratch for as many FLOPs in all",
            least.success >= small.success,
            {
                "success by gate": least.success,
                f"success of {few} blocks": small.success,
                "their FLOPs": round(small.flops / whole.flops, 3),
            },
        ),
    ]


def _read() -> Finding:
    """Digits, of which a look at the first features says little."""
    module, work = digit_reader()
    whole = point(module, work, work.test, 5)
    meter = Meter()
    measured: dict[str, Value] = {"whole accuracy": whole.quality}
    saved = False
    betas = (0.001, 0.003, 0.01)
    method = EcoM2f(betas=betas, steps=300, gate_steps=300, trained_trunk=True)
    points = method.run(Original(module, work, meter, module), meter, np.random.default_rng(0))
    for beta, shrunk in zip(betas, points, strict=True):
        model = shrunk.module
        assert isinstance(model, EarlyExit)
        found, lot = left_at(model, work, work.test)
        cost = found.flops / whole.flops
        measured[f"beta {beta:g}: FLOPs, accuracy, by lot"] = [round(v, 4) for v in (cost, found.quality, lot.quality)]
        saved = saved or (cost <= _SAVED and found.quality >= whole.quality - _EQUAL)
    return Finding(
        f"digits: at accuracy within {_EQUAL} the gate saves at least {1 - _SAVED:.0%} of the FLOPs", saved, measured
    )
