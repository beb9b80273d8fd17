"""Schedules read off a log of learning rates are those that made it."""

from __future__ import annotations

import numpy as np

from isoflop.law.multi_power import from_rates, warm_up


def test_schedules_come_back_from_a_thinned_log():
    flat = warm_up(3e-4, 20, np.full(80, 3e-4))
    falling = warm_up(3e-4, 20, np.linspace(3e-4, 3e-5, 80))
    step = np.arange(20, 101, 10)
    label = ["flat"] * len(step) + ["falling"] * len(step)
    rate = [schedule[s - 1] for schedule in (flat, falling) for s in step]
    law, number = from_rates(label, np.tile(step, 2), rate)
    assert number.tolist() == [1.0] * len(step) + [2.0] * len(step)
    assert np.allclose(law.schedules[0], flat, atol=1e-12)
    assert np.allclose(law.schedules[1], falling, rtol=2e-2), (
        "the rate falls from the step after the first that was logged"
    )
    assert law.stride == 1
