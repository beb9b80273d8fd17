"""Exits by consistency under budgets on mean, peak and memory, on a network of digits."""

from __future__ import annotations

from isoflop.claim.base import Finding, Size
from isoflop.claim.early.compare import digit_reader, left_at, made, point, smaller_reader
from isoflop.cost.ops import stored_bytes
from isoflop.method.conditional.deer_vla import DeerVla
from isoflop.method.conditional.exits import EarlyExit
from isoflop.method.conditional.multi_exit import MultiExit

_EQUAL = 0.005  # of accuracy: one standard error of 1000 images
_SAVED, _MEMORY = 5.2, 2.0  # times less compute and memory, the paper's smaller figures
_OFF = 0.05  # of a budget


def findings(size: Size) -> list[Finding]:
    """Compare the rule with the whole model, with lots, with confidence, and with a smaller model."""
    module, work = digit_reader()
    whole = point(module, work, work.test, 20)
    budgets = (0.6, 0.35, 0.2) if size == "quick" else (0.9, 0.75, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15)
    steps = 200 if size == "quick" else 600
    ruled: dict[str, float] = {}
    lots: dict[str, float] = {}
    off: dict[str, float] = {}
    least = {"consistency": 1.0, "confidence": 1.0}
    once = 0.0
    for rule, method in (
        ("consistency", DeerVla(budgets=budgets, steps=steps)),
        ("confidence", MultiExit(budgets=budgets, steps=steps)),
    ):
        points, once = made(method, module, work)
        for shrunk in points:
            model = shrunk.module
            assert isinstance(model, EarlyExit)
            found, lot = left_at(model, work, work.test)
            cost = found.flops / whole.flops
            if found.quality >= whole.quality - _EQUAL:
                least[rule] = min(least[rule], cost)
            if rule == "consistency":
                asked = float(shrunk.note.split(" of ")[1].split("x")[0])
                name = f"{asked:g}x"
                ruled[name], lots[name], off[name] = found.quality, lot.quality, round(cost / asked - 1, 4)
    small_cut = made(DeerVla(budgets=(1.0,), memory=0.5, steps=steps), module, work)[0][-1]
    memory = stored_bytes(module) / stored_bytes(small_cut.module)
    cut = point(small_cut.module, work, work.test, 50)
    small = point(smaller_reader(least["consistency"] ** 0.5, work.calibration, once), work, work.test, 5)
    return [
        Finding(
            f"at equal accuracy (within {_EQUAL}) consistency takes at least {_SAVED} times fewer FLOPs",
            least["consistency"] <= 1 / _SAVED,
            {
                "whole accuracy": whole.quality,
                "consistency, FLOPs": round(least["consistency"], 3),
                "confidence, FLOPs": round(least["confidence"], 3),
            },
        ),
        Finding(
            "the realised mean on held-out images is within 5 % of each budget",
            all(abs(v) <= _OFF for v in off.values()),
            {f"off at {k}": v for k, v in off.items()},
        ),
        Finding(
            "at each budget it is better than leaving by lot at the same exits as often",
            all(ruled[k] > lots[k] for k in ruled),
            {f"{k}, rule and lot": [round(ruled[k], 4), round(lots[k], 4)] for k in ruled},
        ),
        Finding(
            f"at {_MEMORY:g} times less memory it keeps accuracy (within {_EQUAL})",
            memory >= _MEMORY and cut.quality >= whole.quality - _EQUAL,
            {"times less memory": round(memory, 2), "accuracy": cut.quality},
        ),
        Finding(
            "it is better than a narrower network of about that cost, trained from scratch for the same once-cost",
            max(ruled.values()) > small.quality,
            {
                "best accuracy by consistency": max(ruled.values()),
                "narrower network": small.quality,
                "its FLOPs": round(small.flops / whole.flops, 3),
                "once, FLOPs": once,
            },
        ),
    ]
