"""Two steps carry both errors."""

from __future__ import annotations

import numpy as np

from isoflop.law.chain import TwoStep
from isoflop.law.chinchilla import Chinchilla
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.loss_to_error import LossToError


def test_two_steps():
    law, task = Chinchilla(), LossToError()
    x, truth = law.example()
    rng = np.random.default_rng(0)
    clean = law.value(*x, **truth)
    values = {"eps": 0.86, "k": 2.2, "gamma": 0.71}
    quick = Uncertainty(draws=0)
    far = {"params": 7e9, "tokens": 1e12}
    want = float(task.value(law.value(7e9, 1e12, **truth), **values))
    inside = 0
    runs = 40
    for _ in range(runs):
        first = fit_arrays(law, x, clean * np.exp(0.005 * rng.standard_normal(49)), uncertainty=quick)
        second = fit_arrays(
            task, clean, task.value(clean, **values) + 0.005 * rng.standard_normal(49), uncertainty=quick
        )
        both = TwoStep(first, second).predict(far)
        inside += bool(both.low < want < both.high)
        only_second = second.predict(first.predict(far).value.reshape(1, 1))
        assert both.high - both.low > (only_second.high - only_second.low)[0]
        assert both.beyond > 0
    assert abs(inside / runs - 0.9) < 4 * np.sqrt(0.09 / runs)
