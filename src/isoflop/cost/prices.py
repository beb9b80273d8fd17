"""Prices: what hosted models charge, with the day each figure was noted; an unknown price is unknown, never 0."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost.

    Args:
        input: a prompt token that is computed (USD per million); NaN if unknown.
        output: a generated token, reasoning included (USD per million); NaN if unknown.
        cached: a prompt token taken from a cache (USD per million); as `input` if not given, which is never too low.

    Raises:
        ValueError: a negative or infinite price.

    >>> Price(input=0.15, output=0.60, cached=0.075).usd(1_000_000, 0, 100_000)
    0.21
    >>> Price().usd(0, 0, 0), Price().usd(1, 0, 0)
    (0.0, nan)
    """

    input: float = math.nan
    output: float = math.nan
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached"):
            value = getattr(self, name)
            if value is not None and (value < 0 or math.isinf(value)):
                raise ValueError(
                    f"price {name}={value:g} must be a finite number of USD per million tokens, not negative"
                )

    def usd(self, tokens_in: float, tokens_cached: float, tokens_out: float) -> float:
        """The price of some tokens (USD); NaN if any of them has no known price or an unknown count."""
        cached = self.input if self.cached is None else self.cached
        parts = ((tokens_in, self.input), (tokens_cached, cached), (tokens_out, self.output))
        return sum(0.0 if tokens == 0 else tokens * price for tokens, price in parts) / 1e6


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One row of the table.

    Args:
        host: the server's host name; the same model elsewhere has another price.
        model: regular expression for the whole of the model's name; variants (audio, realtime) are priced apart.
        price: what it charges there.
        source: where the figure is from, and when it was noted.
    """

    host: str
    model: str
    price: Price
    source: str


_OPENAI = "OpenAI's price page as quoted by deploybase.ai, 2026-03; cached price from memory, unchecked"
_ANTHROPIC = "from memory, 2025-06, unchecked"
PRICES: tuple[PriceRow, ...] = (
    PriceRow("api.openai.com", r"gpt-4o-mini(-2024-07-18)?", Price(0.15, 0.60, 0.075), _OPENAI),
    PriceRow("api.openai.com", r"gpt-4o(-2024-08-06|-2024-11-20)?", Price(2.50, 10.00, 1.25), _OPENAI),
    PriceRow("api.openai.com", r"gpt-4\.1-nano(-2025-04-14)?", Price(0.10, 0.40, 0.025), _OPENAI),
    PriceRow("api.openai.com", r"gpt-4\.1-mini(-2025-04-14)?", Price(0.40, 1.60, 0.10), _OPENAI),
    PriceRow("api.openai.com", r"gpt-4\.1(-2025-04-14)?", Price(2.00, 8.00, 0.50), _OPENAI),
    PriceRow("api.openai.com", r"o4-mini(-2025-04-16)?", Price(1.10, 4.40, 0.275), _OPENAI),
    PriceRow("api.anthropic.com", r"claude-sonnet-4-20250514", Price(3.00, 15.00, 0.30), _ANTHROPIC),
    PriceRow("api.anthropic.com", r"claude-3-5-haiku-20241022", Price(0.80, 4.00, 0.08), _ANTHROPIC),
)


def price_row(host: str, model: str) -> PriceRow | None:
    """The row of the table for `model` at `host`, or None; local servers and resellers have prices of their own."""
    return next((row for row in PRICES if row.host == host.lower() and re.fullmatch(row.model, model)), None)


def price_of(host: str, model: str) -> Price:
    """What `model` costs at `host`, out of the table; all NaN where the table does not know.

    >>> price_of("api.openai.com", "gpt-4o-mini-2024-07-18").output
    0.6
    >>> price_of("127.0.0.1", "gpt-4o-mini").output
    nan
    """
    row = price_row(host, model)
    return Price() if row is None else row.price
