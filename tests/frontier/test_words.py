from __future__ import annotations

import math

from isoflop.cost import AXES
from isoflop.frontier.words import AXIS_WORDS, amount, cost


def test_every_axis_has_words():
    assert set(AXIS_WORDS) == set(AXES)


def test_amounts_round_into_the_next_prefix():
    assert [amount(x) for x in (999.4, 999.6, 999_999, 1e30)] == ["999", "1k", "1M", "1e+06Y"]


def test_money_shows_cents_or_two_digits():
    assert [cost(x, "usd") for x in (12.345, 0.00123, math.nan)] == ["$12.35", "$0.0012", "unknown US dollars"]
