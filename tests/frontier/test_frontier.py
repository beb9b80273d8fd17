from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from isoflop.frontier import Frontier, FrontierError, coverage


def test_oracle_best_of_n_is_unbiased_coverage(world):
    w = world(500, 32)
    front = Frontier(w.best_of_n(32), draws=400)
    band = front.band(front.curves[0])
    (cov,) = coverage(w.graded())
    for k in (1, 4, 32):
        assert band.low[k - 1] <= cov.at(k).value <= band.high[k - 1]
    assert band.quality[31] == pytest.approx(cov.at(32).value)  # one order of the samples is all orders


def test_stop_at_first_success_needs_the_published_share_of_the_samples(world):
    """Section 4b of the anchors: the same coverage as K uniform samples at 44 % (K=8) and 13 % (K=128) of them."""
    w = world(1500, 128)
    w.tokens[:] = 1
    for n, share in ((8, 0.44), (128, 0.13)):
        front = Frontier([*w.best_of_n(n, until_right=True), *w.best_of_n(n)], draws=10)
        adaptive, uniform = (c for c in front.curves)
        assert adaptive.quality[:, -1].mean() == uniform.quality[:, -1].mean()
        assert adaptive.cost[:, -1].mean() / uniform.cost[:, -1].mean() == pytest.approx(share, abs=0.02)


def test_points_are_what_no_other_beats(world):
    w = world(200, 16)
    front = Frontier([*w.best_of_n(16, batch=4), *w.single()])
    cost, quality = [p.cost.value for p in front.points], [p.quality.value for p in front.points]
    assert cost == sorted(cost)
    assert quality == sorted(set(quality))
    assert front.points[0].method == "single"
    for c in front.curves:
        for x, y in zip(c.cost.mean(axis=0), c.quality.mean(axis=0), strict=True):
            assert any(p.cost.value <= x and p.quality.value >= y for p in front.points)
    assert front.at(cost[0] / 2) is None
    assert front.at(math.inf) == front.points[-1]
    assert front.at(cost[1]) == front.points[1]


def test_quality_at_a_cost_in_between_is_in_between(world):
    w = world(300, 8)
    front = Frontier(w.best_of_n(8))
    (c,) = front.curves
    x, y = c.cost.mean(axis=0), c.quality.mean(axis=0)
    assert front.quality(c, (x[2] + x[3]) / 2).value == pytest.approx((y[2] + y[3]) / 2)
    assert front.quality(c, x[0] / 2).value == 0.0
    assert front.quality(c, x[-1] * 5).value == y[-1]


def test_difference_at_equal_cost_is_paired_and_finds_what_is_there(world):
    w = world(400, 16)
    front = Frontier([*w.best_of_n(16, until_right=True), *w.best_of_n(16)])
    adaptive, uniform = front.curves
    found = front.difference(adaptive, uniform, 400)
    assert found.p < 0.01
    assert found.estimate.low > 0
    alone = front.quality(adaptive, 400)
    assert found.estimate.high - found.estimate.low < alone.high - alone.low
    none = front.difference(uniform, uniform, 400)
    assert none.estimate.value == 0
    assert none.p == 1


def test_area_orders_curves(world):
    w = world(300, 16)
    front = Frontier([*w.best_of_n(16, until_right=True), *w.best_of_n(16), *w.single()])
    adaptive, uniform, single = (front.area(c) for c in front.curves)
    assert adaptive.value > uniform.value > single.value
    assert single.value == pytest.approx(front.curves[2].quality.mean())
    assert uniform.low < uniform.value < uniform.high


def test_all_wrong_is_not_surely_all_wrong(world):
    w = world(30, 2, a=1e-6, b=1e6)
    front = Frontier(w.single())
    band = front.band(front.curves[0])
    assert band.quality[0] == 0
    assert band.high[0] == pytest.approx(1 - 0.025 ** (1 / 30))


def test_unknown_cost_is_named_and_left_off(world):
    w = world(20, 4)
    dear = [replace(r, model="api", per_use=replace(r.per_use, flops=math.nan)) for r in w.single()]
    front = Frontier([*w.best_of_n(4), *dear], "flops")
    assert front.unknown == ["api single"]
    assert [c.model for c in front.curves] == ["mock:"]
    with pytest.raises(FrontierError, match=r"cost in usd of mock: single.*api single is unknown"):
        Frontier([*w.single(), *dear], "usd")


def test_what_cannot_be_compared_is_refused(world):
    w = world(4, 2)
    with pytest.raises(FrontierError, match="no records"):
        Frontier([])
    with pytest.raises(FrontierError, match="split 'train'"):
        Frontier(w.single(), split="train")
    with pytest.raises(FrontierError, match="nothing was spent in joules"):
        Frontier(w.single(), "joules")
    with pytest.raises(FrontierError, match="no problem was tried by all"):
        Frontier([*w.single()[:2], *w.best_of_n(2)[4:]])
    with pytest.raises(FrontierError, match="0 curves fit"):
        Frontier(w.single()).curve("beam")
    silent = [replace(r, quality=math.nan, status="skipped: no budget") for r in w.single()]
    with pytest.raises(FrontierError, match="none of mock: single gave an answer"):
        Frontier(silent)


def test_curves_are_compared_on_the_problems_that_all_have_tried(world):
    w = world(10, 4)
    front = Frontier([*w.single()[:6], *w.best_of_n(4)])
    assert front.left_out == 4
    assert {c.keys for c in front.curves} == {tuple(w.keys[:6])}


def test_silent_methods_are_named(world):
    w = world(10, 4)
    silent = [replace(r, method="late", quality=math.nan, status="skipped: no budget") for r in w.single()]
    front = Frontier([*w.single(), *silent])
    assert front.unanswered == ["mock: late"]
    assert front.left_out == 0


def test_optimism_is_what_choosing_among_equals_earns(world):
    w = world(100, 40, a=50, b=50)
    rows = [w.row(f"m{j}", i, k, 0, 100, float(w.right[i, j])) for j in range(40) for i, k in enumerate(w.keys)]
    front = Frontier(rows)
    (best,) = front.points
    assert best.quality.value > 0.58  # truth: 0.5 for all
    assert abs(best.quality.value - front.optimism(100) - 0.5) < abs(best.quality.value - 0.5)
    assert np.isclose(Frontier(rows[:100]).optimism(100), 0, atol=0.01)


def test_a_perfect_verifier_is_a_bound_and_no_choice(world):
    w = world(100, 8)
    bound = w.best_of_n(8, value="oracle")
    front = Frontier([*bound, *w.best_of_n(8, value="judge"), *w.single()])
    assert all("oracle" not in p.method for p in front.points)
    assert front.points[0].method == "single"  # of equals the simplest
    assert front.optimism(1e9) < 0.1
    assert all("oracle" in p.method for p in Frontier(bound).points)
