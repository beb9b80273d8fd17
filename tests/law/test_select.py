"""Selection finds the law the data came from."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.law.columns import BadData
from isoflop.law.find import law
from isoflop.law.select import select


@pytest.mark.parametrize("truth", ["power", "power_floor"])
def test_the_right_law_comes_first(truth: str):
    chosen = law(truth)
    x, values = chosen.example()
    clean = chosen.value(*x, **values)
    first: list[str] = []
    for seed in range(10):
        ranked = select(
            ["power_floor", "power"], x, clean * np.exp(0.002 * np.random.default_rng(seed).standard_normal(x.shape[1]))
        )
        first.append(ranked[0].name)
        assert ranked[0].held_out < 0.01
    assert first.count(truth) >= 8


def test_a_law_that_cannot_be_fitted_says_why_and_comes_last():
    x = np.geomspace(1e3, 1e6, 6)[None]
    y = 5 * x[0] ** -0.2 * np.exp(0.01 * np.random.default_rng(0).standard_normal(6))
    ranked = select(["broken", "power"], x, y)
    assert [r.name for r in ranked] == ["power", "broken"]
    assert "6 rows for 6 parameters" in ranked[1].why_not
    with pytest.raises(BadData, match="no law fits: broken: 6 rows"):
        select(["broken"], x, y)
