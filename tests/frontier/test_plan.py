from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from isoflop.cost import Budget, Cost
from isoflop.frontier import FrontierError, plan


def test_the_choice_is_made_on_dev_and_measured_on_test(world):
    w = world(600, 16)
    rows = [*w.single(), *w.best_of_n(16), *w.best_of_n(16, until_right=True)]
    found = plan(rows, Budget("tokens_out", 500), draws=300)
    assert "confident" in found.choice.method
    assert (found.chosen_on, found.checked_on) == ("dev", "test")
    assert all("over the budget" in warning for warning in found.warnings)
    k = found.choice.step + 1
    assert found.choice.quality.value == w.right[1::2, :k].any(axis=1).mean()
    assert found.chosen.value == w.right[0::2, :k].any(axis=1).mean()
    assert found.gain.p < 0.01
    assert found.cheaper is None or found.cheaper.cost.value < found.choice.cost.value
    assert "stopped after answer" in str(found)
    affordable = [int((w.tokens[i].cumsum() <= 500).sum()) for i in range(1, 600, 2)]
    assert found.hard == pytest.approx(np.mean([w.right[2 * j + 1, :k].any() for j, k in enumerate(affordable)]))


def test_the_winners_curse_is_not_in_the_estimate(world):
    """Forty methods, all right half of the time: what was chosen looks better than it is, what is reported does not."""
    looked, reported, alone = [], [], []
    for seed in range(8):
        w = world(100, 40, a=500, b=500, seed=seed)
        rows = [w.row(f"m{j}", i, k, 0, 100, float(w.right[i, j])) for j in range(40) for i, k in enumerate(w.keys)]
        found = plan(rows, Budget("tokens_out", 200), draws=100)
        looked.append(found.chosen.value)
        reported.append(found.choice.quality.value)
        one_split = plan([replace(r, split="test") for r in rows], Budget("tokens_out", 200), draws=100)
        assert any("same problems" in warning for warning in one_split.warnings)
        alone.append(one_split.choice.quality.value - one_split.chosen.value)
    assert np.mean(looked) > 0.6
    assert abs(np.mean(reported) - 0.5) < 0.04
    assert np.mean(alone) < -0.05


def test_ten_times_more_is_measured_where_it_was_and_forecast_where_it_follows_the_law(world):
    w = world(600, 128)
    w.tokens[:] = 1
    bought = plan(w.best_of_n(128), Budget("tokens_out", 8), draws=100).tenfold
    assert bought is not None
    assert bought.how == "measured"
    short = world(600, 12)
    short.tokens[:], short.right = 1, w.right[:, :12]
    rows = short.best_of_n(12, value="oracle")
    ahead = plan(rows, Budget("tokens_out", 8), graded=short.graded(), draws=100).tenfold
    assert ahead is not None
    assert (ahead.how, ahead.bound) == ("coverage law", False)
    truth = w.right[1::2, :80].any(axis=1).mean()
    assert abs(ahead.quality.value - truth) < 0.06
    other = [replace(r, method="vote") for r in short.single()]
    bound = plan([*other, *short.single()], Budget("tokens_out", 1), graded=short.graded(), draws=100).tenfold
    assert bound is not None
    assert bound.bound
    assert plan(rows, Budget("tokens_out", 8), draws=100).tenfold is None


def test_uses_decide_whether_paying_once_pays(world):
    w = world(200, 2)
    better = [replace(r, method="trained", once=Cost(tokens_out=10_000), quality=1.0) for r in w.single()]
    rows = [*w.single(), *better]
    assert plan(rows, Budget("tokens_out", 300), uses=1, draws=50).choice.method == "single"
    assert plan(rows, Budget("tokens_out", 300), uses=1000, draws=50).choice.method == "trained"


def test_what_fits_nothing_is_refused_with_the_cheapest_named(world):
    with pytest.raises(FrontierError, match="nothing fits 1 tokens_out a problem: the cheapest, mock: single, costs"):
        plan(world(30, 2).single(), Budget("tokens_out", 1))


def test_weaknesses_are_said(world):
    w = world(30, 2)
    rows = w.single()
    rows[4:8] = [replace(r, quality=math.nan, status="failed: server") for r in rows[4:8]]
    rows += [replace(r, model="api", per_use=replace(r.per_use, tokens_out=math.nan)) for r in w.single()]
    words = "\n".join(plan(rows, Budget("tokens_out", 1000)).warnings)
    assert "answered only 87% of the problems" in words
    assert "unknown: api single" in words
    assert "only 15 problems" in words
