"""Costs are commutative monoids in sequence and in parallel, and unknowns spread."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost import AXES, FREE, UNKNOWN, Cost, in_parallel, in_sequence

# Whole numbers, so that sums are exact and associativity is not blurred by rounding; and the unknown.
amounts = st.one_of(st.integers(0, 2**40).map(float), st.just(math.nan))
costs = st.builds(Cost, *(amounts for _ in AXES))
OPERATIONS = pytest.mark.parametrize("op", [Cost.then, Cost.beside], ids=["then", "beside"])


def same(a: Cost, b: Cost) -> bool:
    return all(a[x] == b[x] or (math.isnan(a[x]) and math.isnan(b[x])) for x in AXES)


@OPERATIONS
@given(a=costs, b=costs, c=costs)
def test_commutative_monoid(op, a, b, c):
    assert same(op(a, b), op(b, a))
    assert same(op(op(a, b), c), op(a, op(b, c)))
    assert same(op(a, FREE), a)


@given(a=costs)
def test_unknown_spreads(a):
    assert same(a.then(UNKNOWN), UNKNOWN)
    assert same(a.beside(UNKNOWN), UNKNOWN)


def test_time_and_memory_are_what_tells_sequence_from_parallel():
    a, b = Cost(flops=1, peak_bytes=10, wall_s=3), Cost(flops=2, peak_bytes=7, wall_s=5)
    assert a.then(b) == Cost(flops=3, peak_bytes=10, wall_s=8)
    assert a.beside(b) == Cost(flops=3, peak_bytes=17, wall_s=5)
    assert in_sequence([a, b, a]).wall_s == 11
    assert in_parallel([a, b, a]).wall_s == 5
    assert in_sequence([]) == in_parallel([]) == FREE


@given(a=costs, n=st.integers(1, 5))
def test_times_is_repetition(a, n):
    assert same(a.times(n), in_sequence([a] * n))


def test_no_uses_cost_nothing_even_if_one_is_unknown():
    assert replace(UNKNOWN.times(0), peak_bytes=0) == FREE


def test_axes_by_name():
    cost = Cost(*range(1, len(AXES) + 1))
    assert [cost[axis] for axis in AXES] == list(cost.as_dict().values()) == list(range(1, len(AXES) + 1))
