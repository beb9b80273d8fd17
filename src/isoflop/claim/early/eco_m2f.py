"""One trunk, a gate for each price of compute, on a network of digits."""

from __future__ import annotations

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.early.compare import digit_reader, left_at, made, point, smaller_reader
from isoflop.method.conditional.eco_m2f import EcoM2f
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.shrink import digest

_EQUAL = 0.01  # of accuracy
_SAVED = 0.9  # of the FLOPs; the paper's encoders save 10 to 30 %


def findings(size: Size) -> list[Finding]:
    """Compare the gate with the whole model, with depth by lot, and with a narrower network."""
    module, work = digit_reader()
    whole = point(module, work, work.test, 5)
    steps = 150 if size == "quick" else 600
    betas = (0.02, 0.3) if size == "quick" else (0.001, 0.003, 0.01, 0.03, 0.1)
    points, once = made(EcoM2f(betas=betas, steps=steps, gate_steps=steps), module, work)
    measured: dict[str, Value] = {"whole accuracy": whole.quality}
    costs: list[float] = []
    gated: list[float] = []
    lots: list[float] = []
    for beta, shrunk in zip(betas, points, strict=True):
        model = shrunk.module
        assert isinstance(model, EarlyExit)
        found, lot = left_at(model, work, work.test)
        costs.append(found.flops / whole.flops)
        gated.append(found.quality)
        lots.append(lot.quality)
        measured[f"beta {beta:g}: FLOPs, accuracy, by lot"] = [round(v, 4) for v in (costs[-1], gated[-1], lots[-1])]
    trunks = {digest(s.module.trunk) for s in points if isinstance(s.module, EarlyExit)}
    good = [c for c, q in zip(costs, gated, strict=True) if q >= whole.quality - _EQUAL]
    small = point(smaller_reader(costs[0] ** 0.5, work.calibration, once), work, work.test, 5)
    return [
        Finding(
            f"at accuracy within {_EQUAL} the gate saves at least {1 - _SAVED:.0%} of the FLOPs",
            bool(good) and min(good) <= _SAVED,
            measured,
        ),
        Finding(
            "another price changes the gate only and moves the cost",
            trunks == {digest(module)} and costs[-1] < costs[0],
            {"trunks": float(len(trunks)), "FLOPs": [round(c, 3) for c in costs]},
        ),
        Finding(
            "the gate is better than depth by lot with the same shares, at each price",
            all(q > lot for q, lot in zip(gated, lots, strict=True)),
            {"gate less lot": [round(q - lot, 4) for q, lot in zip(gated, lots, strict=True)]},
        ),
        Finding(
            "it is better than a narrower network of about that cost, trained from scratch for the same once-cost",
            gated[0] > small.quality,
            {"gate": gated[0], "narrower network": small.quality, "its FLOPs": round(small.flops / whole.flops, 3)},
        ),
    ]
