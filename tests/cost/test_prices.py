"""Prices: exact sums, and unknown is never free."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost.prices import PRICES, Price, price_of, price_row

tokens = st.integers(0, 10**9)


def test_each_kind_of_token_has_its_price():
    price = Price(input=2, output=8, cached=0.5)
    assert price.usd(1e6, 0, 0) == 2
    assert price.usd(0, 1e6, 0) == 0.5
    assert price.usd(0, 0, 1e6) == 8
    assert price.usd(1e6, 1e6, 1e6) == 10.5


@given(tokens, tokens, tokens)
def test_cached_tokens_without_a_price_cost_as_much_as_others(a: int, b: int, c: int):
    assert Price(2, 8).usd(a, b, c) == pytest.approx(Price(2, 8).usd(a + b, 0, c))


@given(tokens, tokens, tokens)
def test_an_unknown_price_is_unknown_unless_nothing_was_used(a: int, b: int, c: int):
    assert Price().usd(a, b, c) == 0 if a == b == c == 0 else math.isnan(Price().usd(a, b, c))
    assert math.isnan(Price(input=1).usd(a, b, c)) == (c > 0)


def test_an_unknown_count_has_no_price():
    assert math.isnan(Price(1, 1).usd(math.nan, 0, 5))


def test_free_is_a_price_of_zero():
    assert Price(0, 0).usd(10, 10, 10) == 0


@pytest.mark.parametrize("bad", [-1, math.inf])
def test_a_price_must_be_finite_and_not_negative(bad: float):
    with pytest.raises(ValueError, match="output"):
        Price(input=1, output=bad)


def test_the_table_knows_a_model_at_its_own_host_only():
    assert price_of("api.openai.com", "gpt-4o").input == 2.5
    for host, model in (("localhost", "gpt-4o"), ("api.openai.com", "gpt-4o-audio-preview"), ("api.openai.com", "x")):
        assert math.isnan(price_of(host, model).input)
        assert price_row(host, model) is None


def test_every_row_has_all_prices_and_a_dated_source():
    for row in PRICES:
        assert row.price.input <= row.price.output
        assert row.price.cached is not None
        assert row.price.cached <= row.price.input
        assert re.search(r"20\d\d-\d\d", row.source)
