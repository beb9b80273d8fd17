"""Budgets say of what, in words people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost import AXES, Budget


@pytest.mark.parametrize(
    ("words", "axis", "limit"),
    [
        ("tokens_out=20000", "tokens_out", 20_000),
        ("tokens_out=20k", "tokens_out", 20_000),
        ("tokens_in = 1.5M tokens", "tokens_in", 1.5e6),
        ("flops=1e15", "flops", 1e15),
        ("flops=2 PFLOP", "flops", 2e15),
        ("flops=1PF-day", "flops", 8.64e19),
        ("flops=3.5 TFLOPs", "flops", 3.5e12),
        ("wall_s=600", "wall_s", 600),
        ("wall_s=10min", "wall_s", 600),
        ("wall_s=1.5h", "wall_s", 5400),
        ("wall_s=250ms", "wall_s", 0.25),
        ("joules=5e3", "joules", 5e3),
        ("joules=2 kWh", "joules", 7.2e6),
        ("joules=5kJ", "joules", 5e3),
        ("usd=2", "usd", 2),
        ("usd=$2.50", "usd", 2.5),
        ("usd=1,250 USD", "usd", 1250),
        ("peak_bytes=4GiB", "peak_bytes", 4 * 2**30),
        ("peak_bytes=512 MiB", "peak_bytes", 2**29),
        ("peak_bytes=4GB", "peak_bytes", 4e9),
        ("bytes_moved=1_000", "bytes_moved", 1000),
        ("usd=.5", "usd", 0.5),
    ],
)
def test_words(words, axis, limit):
    budget = Budget.parse(words)
    assert budget.axis == axis
    assert budget.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("20000", "must read axis=amount with an axis out of flops, bytes_moved"),
        ("tokens=20", "must read axis=amount"),
        ("tokens_out=", "is not a positive number"),
        ("tokens_out=many", "'many' is not a positive number"),
        ("tokens_out=-5", "is not a positive number"),
        ("tokens_out=0", "must be a positive finite number"),
        ("usd=2 EUR", "unit 'EUR' does not fit the axis usd; use one of USD"),
        ("wall_s=3 kB", "unit 'kB' does not fit the axis wall_s"),
        ("flops=1e999", "must be a positive finite number"),
    ],
)
def test_what_is_no_budget_is_refused_by_name(words, complaint):
    with pytest.raises(ValueError, match=complaint):
        Budget.parse(words)


@given(axis=st.sampled_from(AXES), limit=st.floats(1e-3, 1e15))
def test_what_is_printed_is_read_again(axis, limit):
    budget = Budget(axis, float(f"{limit:g}"))
    assert Budget.parse(str(budget)) == budget
