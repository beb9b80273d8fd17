"""Dropping the operators whose absence moves the outputs' distribution least."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.cost import Meter
from isoflop.example import digits, sentences
from isoflop.method.compress.channels import flops
from isoflop.method.compress.ld_pruner import Dropped, droppable
from isoflop.method.compress.ld_pruner import LdPruner as Method
from isoflop.method.compress.tuning import Tuning, refresh_norms, swapped, tune
from isoflop.method.shrink import Original, Workload

_DROPS = {"quick": 2, "full": 4}
_OPERATORS = {"quick": 12, "full": 24}
_SENTENCES = {"quick": 24, "full": 48}
_RANDOM = {"quick": 3, "full": 6}  # choices drawn
_STEPS = {"quick": 10, "full": 30}  # of training after the drops
_MATCH = 0.9  # of the scored choice's saving, at least, that a random one saves


def findings(size: Size) -> list[Finding]:
    """On each model."""
    work = sentences.workload(_SENTENCES[size])
    found = _tested("sentences", sentences.build(), work, size)
    if size == "full":
        work = digits.workload()
        few = replace(work, calibration=work.calibration.rows(slice(500)))
        found += _tested("digits", digits.build(), few, size)
    return found


def _tested(name: str, model: nn.Module, work: Workload, size: Size) -> list[Finding]:
    meter, rng = Meter(), np.random.default_rng(0)
    problem = Original(model, work, meter, model)
    method = Method(drops=_DROPS[size], operators=_OPERATORS[size])
    *_, last = method.run(problem, meter, rng)
    scored, once = last.module, meter.spent.flops
    whole = flops(model, work.calibration)
    saved = whole - flops(scored, work.calibration)
    drawn = _random(problem, method, saved, _RANDOM[size])
    names = ["scored", *(f"random {i}" for i in range(len(drawn)))]
    before = [problem.quality(m, work.test) for m in (scored, *drawn)]
    for m in (scored, *drawn):
        tune(problem, m, m.parameters(), Tuning(_STEPS[size], 0.0003, 16), np.random.default_rng(1))
    after = [problem.quality(m, work.test) for m in (scored, *drawn)]
    shared: dict[str, Value] = {
        "original": round(problem.quality(model, work.test), 4),
        "FLOPs left, scored": round(1 - saved / whole, 3),
        "FLOPs left, random": [round(flops(m, work.calibration) / whole, 3) for m in drawn],
        "once GFLOP of scoring": round(once / 1e9, 1),
        "dropped": last.note,
    }
    return [_compare(name, "", names, before, shared), _compare(name, f" after {_STEPS[size]} steps", names, after, {})]


def _random(problem: Original, method: Method, saved: float, count: int) -> list[nn.Module]:
    """Models without operators drawn at random from those that were scored, that save about as many FLOPs.

    In an operator's place comes what the score found to be better there: chance has only to choose which ones go.
    """
    data, rng = problem.calibration.rows(slice(method.examples)), np.random.default_rng(2)
    spent = droppable(problem.module, data)
    names = sorted(spent, key=lambda name: -spent[name])[: method.operators]
    zero = {name: score[1] for name, score in method.scores(problem, names, data).items()}
    whole = flops(problem.module, problem.calibration)
    made: list[nn.Module] = []
    while len(made) < count:
        gone: dict[str, nn.Module] = {}
        for i in rng.permutation(len(names)):
            name = names[int(i)]
            if any(f"{name}.".startswith(f"{g}.") or f"{g}.".startswith(f"{name}.") for g in gone):
                continue
            tried = gone | {name: Dropped(zero[name])}
            less = whole - flops(swapped(problem.copy(), tried), problem.calibration)
            if less <= saved * (2 - _MATCH):
                gone = tried
            if saved * _MATCH <= less <= saved * (2 - _MATCH):
                smaller = swapped(problem.copy(), gone)
                refresh_norms(problem, smaller)
                made.append(smaller)
                break
    return made


def _compare(name: str, when: str, names: list[str], quality: list[float], more: dict[str, Value]) -> Finding:
    scored, drawn = quality[0], quality[1:]
    return Finding(
        f"{name}{when}: quality without the operators of least score is above all of {len(drawn)} random choices",
        scored > max(drawn),
        {"scored": round(scored, 4), "random, mean": round(float(np.mean(drawn)), 4)}
        | {f"{n}": round(x, 4) for n, x in zip(names[1:], drawn)}
        | more,
    )
