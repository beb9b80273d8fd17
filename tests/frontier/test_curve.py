from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from isoflop.cost import Cost
from isoflop.frontier import curves
from isoflop.record import Record


def row(key: str, step: int, tokens: float, quality: float, **changed) -> Record:
    made = Record("m", "f", "t", key, "test", 0, step, Cost(), Cost(tokens_out=tokens), quality)
    return replace(made, **changed)


def test_a_step_is_the_mean_over_problems_and_ended_problems_keep_their_last_answer():
    (c,) = curves([row("a", 0, 10, 0), row("a", 1, 20, 1), row("b", 0, 30, 1)], "tokens_out")
    assert c.steps == (0, 1)
    assert c.cost.mean(axis=0).tolist() == [20, 25]
    assert c.quality.mean(axis=0).tolist() == [0.5, 1.0]
    assert c.reached.tolist() == [1.0, 0.5]


def test_seeds_are_averaged_and_a_later_row_replaces_an_equal_one():
    rows = [row("a", 0, 10, 0), row("a", 0, 30, 1, seed=1), row("a", 0, 20, 1)]
    (c,) = curves(rows, "tokens_out")
    assert c.cost.tolist() == [[25.0]]
    assert c.quality.tolist() == [[1.0]]


def test_no_answer_counts_as_said_and_what_it_spent_counts():
    rows = [row("a", 0, 10, 1), row("b", 0, 7, math.nan, status="skipped: budget")]
    (c,) = curves(rows, "tokens_out")
    assert c.quality.mean() == 0.5
    assert c.cost.mean() == 8.5
    assert c.reached.tolist() == [0.5]
    assert curves(rows, "tokens_out", no_answer=math.nan) == []


def test_a_fault_of_the_grader_is_neither_right_nor_wrong():
    rows = [row("a", 0, 10, 1), row("a", 1, 20, math.nan, status="failed: grader: hung")]
    (c,) = curves(rows, "tokens_out")
    assert c.quality.tolist() == [[1.0, 1.0]]
    assert c.cost.tolist() == [[10.0, 20.0]]


def test_uses_spread_what_is_paid_once():
    rows = [row("a", 0, 10, 1, once=Cost(tokens_out=100, peak_bytes=5), per_use=Cost(tokens_out=10, peak_bytes=3))]

    def cost(axis, uses):
        return float(curves(rows, axis, uses=uses)[0].cost[0, 0])

    assert cost("tokens_out", 1) == 110
    assert cost("tokens_out", 10) == 20
    assert cost("tokens_out", math.inf) == 10
    assert cost("peak_bytes", 10) == 5
    with pytest.raises(ValueError, match="uses=0"):
        cost("tokens_out", 0)


def test_a_curve_that_gets_cheaper_is_put_in_order_of_cost():
    rows = [row("a", 0, 30, 0.9), row("a", 1, 10, 0.8)]
    (c,) = curves(rows, "tokens_out")
    assert c.steps == (1, 0)
    assert c.quality.tolist() == [[0.8, 0.9]]


def test_unknown_cost_is_known_to_be_unknown():
    (c,) = curves([row("a", 0, math.nan, 1)], "tokens_out")
    assert not c.known


def test_a_hard_limit_per_problem_takes_the_last_affordable_answer(world):
    w = world(50, 8)
    (c,) = curves(w.best_of_n(8), "tokens_out")
    limits = np.array([0.0, 200.0, 1e9])
    by_hand = []
    for limit in limits:
        affordable = [int((w.tokens[i].cumsum() <= limit).sum()) for i in range(50)]
        by_hand.append(np.mean([w.right[i, :k].any() for i, k in enumerate(affordable)]))
    assert np.allclose(c.capped(limits), by_hand)


def test_two_tasks_share_no_frontier():
    with pytest.raises(ValueError, match="t, u"):
        curves([row("a", 0, 1, 1), row("a", 0, 1, 1, task="u")], "tokens_out")


def test_a_problem_that_its_grader_never_judged_is_on_no_curve():
    fault = "failed: grader: out of processes"
    rows = [row("a", 0, 10, 1), row("b", 0, 7, math.nan, status=fault), row("c", 0, 7, math.nan, status="failed: x")]
    (c,) = curves(rows, "tokens_out")
    assert c.keys == ("a", "c")  # a method's own failure counts
    assert c.quality.mean() == 0.5
    (c,) = curves([*rows, row("b", 1, 14, 1.0)], "tokens_out")
    assert c.keys == ("a", "b", "c")
    assert curves([row("b", 0, 7, math.nan, status=fault)], "tokens_out") == []
    other_seed = row("b", 0, 9, 1.0, seed=1)
    assert curves([rows[1], other_seed], "tokens_out")[0].quality.tolist() == [[1.0]]
