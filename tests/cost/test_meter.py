"""Nothing is spent that was not admitted, and nothing spent goes uncharged."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost import FREE, Budget, BudgetExhausted, Cost, Meter, in_sequence

tokens = st.integers(1, 50)


@given(limit=st.integers(1, 300), calls=st.lists(st.tuples(tokens, st.floats(0, 1)), max_size=30))
def test_with_upper_bounds_a_budget_is_never_exceeded(limit, calls):
    meter = Meter([Budget("tokens_out", limit)])
    held = []
    for bound, share in calls:
        try:
            held.append((meter.admit(Cost(tokens_out=bound)), Cost(tokens_out=round(bound * share))))
        except BudgetExhausted as refused:
            assert refused.spent + refused.asked > refused.limit
    for hold, actual in held:
        hold.settle(actual, "generate")
    assert meter.spent.tokens_out == sum(actual.tokens_out for _, actual in held) <= limit
    assert meter.overshoot() == {"tokens_out": 0}
    assert meter.left("tokens_out") == limit - meter.spent.tokens_out


def test_a_refusal_reserves_nothing_anywhere():
    outer = Meter([Budget("tokens_out", 10), Budget("usd", 1)])
    inner = Meter(parent=outer)
    with pytest.raises(BudgetExhausted, match=r"budget usd=1 has 1 left; refused a call for 2 more, nothing was spent"):
        inner.admit(Cost(tokens_out=5, usd=2))
    assert outer.left("tokens_out") == inner.left("tokens_out") == 10
    assert inner.spent == outer.spent == FREE


def test_an_unknown_cost_is_refused_where_it_is_limited_and_welcome_elsewhere():
    meter = Meter([Budget("usd", 5)])
    with pytest.raises(BudgetExhausted, match="of unknown cost"):
        meter.admit(Cost(usd=math.nan))
    meter.admit(Cost(joules=math.nan, usd=1)).settle(Cost(joules=math.nan, usd=1), "generate")
    assert math.isnan(meter.spent.joules)
    assert meter.left("usd") == 4


def test_meters_nest_and_every_role_adds_up():
    run = Meter([Budget("tokens_out", 100)])
    problems = [Meter([Budget("tokens_out", 30)], parent=run) for _ in range(3)]
    for meter in problems:
        meter.charge(Cost(tokens_out=10), "generate")
        meter.charge(Cost(tokens_out=4), "judge")
    assert run.by_role == {"generate": Cost(tokens_out=30), "judge": Cost(tokens_out=12)}
    assert in_sequence(run.by_role.values()) == run.spent
    assert problems[0].left("tokens_out") == 16  # its own limit binds
    run.charge(Cost(tokens_out=50), "train")
    assert problems[0].left("tokens_out") == 8  # the one around it binds


def test_what_is_shared_is_charged_here_and_not_around():
    run = Meter([Budget("tokens_out", 10)])
    method = Meter(parent=run)
    method.admit(Cost(tokens_out=10)).settle(Cost(tokens_out=9), "generate")
    method.admit(Cost(tokens_out=50), shared=True).settle(Cost(tokens_out=40), "generate")
    assert method.spent.tokens_out == 49
    assert run.spent.tokens_out == 9


def test_a_released_hold_gives_everything_back():
    meter = Meter([Budget("flops", 10)])
    meter.admit(Cost(flops=10)).release()
    assert meter.left("flops") == 10
    assert meter.spent == FREE


def test_overshoot_is_reported_when_an_estimate_was_too_low():
    meter = Meter([Budget("joules", 10), Budget("usd", 10)])
    meter.admit(Cost(joules=1)).settle(Cost(joules=13, usd=math.nan), "generate")
    assert meter.overshoot()["joules"] == 3
    assert math.isnan(meter.overshoot()["usd"])


def test_time_is_the_clocks_and_not_the_sum_of_calls():
    now = 0.0
    meter = Meter([Budget("wall_s", 10)], clock=lambda: now)
    for _ in range(5):
        meter.admit(Cost(wall_s=3)).settle(Cost(wall_s=3), "generate")  # side by side
    now = 4.0
    assert meter.spent.wall_s == 4
    assert meter.left("wall_s") == 6
    now = 11.0
    with pytest.raises(BudgetExhausted):
        meter.admit(Cost(wall_s=1))
    assert meter.overshoot() == {"wall_s": 1}


def test_a_memory_budget_limits_each_call_since_memory_is_given_back():
    meter = Meter([Budget("peak_bytes", 100)])
    for _ in range(3):
        meter.admit(Cost(peak_bytes=90)).settle(Cost(peak_bytes=90), "generate")
    with pytest.raises(BudgetExhausted):
        meter.admit(Cost(peak_bytes=101))
