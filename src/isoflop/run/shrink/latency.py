"""Latency of several modules beside each other: one example at a time, one thread, with a guard against load."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from isoflop.cost.energy import EnergyMeter
from isoflop.frontier.estimate import Array, Estimate, estimate
from isoflop.method.shrink import Data

_BUSY = 1.15
"""Wall time over processor time from which on a call counts as disturbed: something else had the core meanwhile."""
_DRAWS = 1000
_FEWEST_CLEAN = 0.5


@dataclass(frozen=True)
class Latency:
    """What one use takes on this machine.

    Args:
        wall_s: median over rounds of the mean over examples (seconds).
        worst_s: the slowest example's median (seconds).
        ratio: to the first of the modules it was measured beside, on the same examples in the same rounds.
        joules: of one use.
        trouble: why the figures cannot be relied on; empty where they can.
    """

    wall_s: Estimate
    worst_s: float
    ratio: Estimate
    joules: float
    trouble: str = ""


_UNKNOWN = Estimate(math.nan, math.nan, math.nan)
NOT_TIMED = Latency(_UNKNOWN, math.nan, _UNKNOWN, math.nan, "not timed")


def latencies(modules: Sequence[nn.Module], data: Data, rounds: int = 7, at_most_s: float = 30.0) -> list[Latency]:
    """Time modules in turn on the same examples: each round is every module on every example, in a new order.

    Interleaving gives all of them the same weather. A call during which the processor was taken away (wall time well
    above processor time) is disturbed: there the processor time stands for it, which on one thread of an idle machine
    is the same; where half of the calls or more were disturbed, the figures say so.

    Args:
        modules: the first is the one that ratios are to.
        data: the examples; each is computed alone.
        rounds: how often (count), at least 3; fewer where they would take longer than `at_most_s`.
        at_most_s: when to stop (seconds).
    """
    rows = [data.rows(slice(i, i + 1)).inputs for i in range(len(data))]
    rng = np.random.default_rng(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    energies, started = [0.0] * len(modules), time.perf_counter()
    took: list[Array] = []
    disturbed: list[Array] = []
    try:
        with torch.no_grad():
            for module in modules:
                module(*rows[0])  # what is prepared on first use is not part of a use
            while len(took) < rounds:
                wall, far = np.zeros((len(modules), len(rows))), np.zeros((len(modules), len(rows)))
                for m in rng.permutation(len(modules)):
                    energy, all_busy = EnergyMeter(), 0.0
                    for i, row in enumerate(rows):
                        clock, busy = time.perf_counter(), time.thread_time()
                        modules[m](*row)
                        wall[m, i] = time.perf_counter() - clock
                        busy = time.thread_time() - busy
                        all_busy += busy
                        far[m, i] = wall[m, i] > _BUSY * busy
                        wall[m, i] = busy if far[m, i] else wall[m, i]
                    energies[m] += energy.since_last(all_busy).mid
                took.append(wall)
                disturbed.append(far)
                spent = time.perf_counter() - started
                if len(took) >= 3 and spent * (1 + 1 / len(took)) > at_most_s:
                    break
    finally:
        torch.set_num_threads(threads)
    uses = len(took) * len(rows)
    return [_latency(np.stack(took), np.stack(disturbed)[:, m], m, energies[m] / uses) for m in range(len(modules))]


def _latency(took: Array, disturbed: Array, m: int, joules: float) -> Latency:
    """Of module `m`, from seconds (rounds, modules, examples)."""
    rounds = len(took)
    means = took.mean(axis=2)
    at = np.random.default_rng(0).integers(rounds, size=(_DRAWS, rounds))
    share = float(disturbed.mean())
    trouble = ""
    if share >= _FEWEST_CLEAN:
        load = os.getloadavg()[0]
        trouble = (
            f"the machine was busy (load {load:.1f}): {share:.0%} of the calls were disturbed; processor time shown"
        )
    mine: Array = means[:, m]
    ratios: Array = means[:, m] / means[:, 0]
    mine_drawn: Array = np.median(mine[at], axis=1)
    ratios_drawn: Array = np.median(ratios[at], axis=1)
    return Latency(
        estimate(float(np.median(mine)), mine_drawn),
        float(np.median(took[:, m], axis=0).max()),
        estimate(float(np.median(ratios)), ratios_drawn),
        joules,
        trouble,
    )
