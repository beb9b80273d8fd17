"""Runs that follow a law known to the tests."""

from __future__ import annotations

import numpy as np

from isoflop.law.chinchilla import Chinchilla
from isoflop.law.fit import Uncertainty

QUICK = Uncertainty(draws=0)
TRUTH = {"E": 1.8691436784054858, "A": 520.8249516599187, "B": 1487.716093782861, "alpha": 0.3526596, "beta": 0.3526596}


def runs(noise: float = 0.005, seed: int = 0, **truth: float) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (2, M) of the law's example, and losses (M) with noise."""
    law = Chinchilla()
    x, _ = law.example()
    rng = np.random.default_rng(seed)
    return x, law.value(*x, **(TRUTH | truth)) * np.exp(noise * rng.standard_normal(x.shape[1]))
