"""Numbers and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from isoflop.cost import Axis
from isoflop.frontier import Estimate

AXIS_WORDS: dict[Axis, str] = {
    "flops": "FLOPs",
    "bytes_moved": "bytes moved",
    "peak_bytes": "bytes of memory",
    "tokens_in": "prompt tokens",
    "tokens_cached": "cached tokens",
    "tokens_out": "output tokens",
    "wall_s": "seconds",
    "joules": "joules",
    "usd": "US dollars",
}


def amount(x: float) -> str:
    """A number in a few characters, with an SI prefix: 12.3k.

    >>> [amount(x) for x in (0, 0.5, 999, 12345, 3.2e16, float("nan"))]
    ['0', '0.5', '999', '12.3k', '32P', 'unknown']
    """
    if math.isnan(x):
        return "unknown"
    prefixes = iter("kMGTPEZY")
    prefix = ""
    while abs(x) >= 999.5 and (larger := next(prefixes, "")):
        x, prefix = x / 1e3, larger
    return f"{x:.3g}{prefix}"


def cost(x: float, axis: Axis) -> str:
    """An amount with what it is of.

    >>> cost(1234, "tokens_out"), cost(0.002, "usd"), cost(float("nan"), "joules")
    ('1.23k output tokens', '$0.002', 'unknown joules')
    """
    if axis == "usd" and not math.isnan(x):
        return f"${x:,.2f}" if x >= 0.1 else f"${x:.2g}"
    return f"{amount(x)} {AXIS_WORDS[axis]}"


def quality(x: float, share: bool) -> str:
    """A quality: in per cent where it is a share of problems solved.

    >>> quality(0.684, True), quality(-2.3456, False)
    ('68.4%', '-2.346')
    """
    return f"{x:.1%}" if share else f"{x:.4g}"


def interval(e: Estimate, share: bool) -> str:
    """The ends of an interval.

    >>> interval(Estimate(0.5, 0.4, 0.61), True)
    '40.0-61.0%'
    """
    return f"{100 * e.low:.1f}-{e.high:.1%}" if share else f"{e.low:.4g} to {e.high:.4g}"


def points(e: Estimate, share: bool) -> str:
    """A difference of qualities with its interval: in percentage points where they are shares.

    >>> points(Estimate(0.123, -0.01, 0.2), True)
    '+12.3 [-1.0, +20.0]'
    """
    if share:
        return f"{100 * e.value:+.1f} [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"
    return f"{e.value:+.4g} [{e.low:+.4g}, {e.high:+.4g}]"


@dataclass(frozen=True)
class Grid:
    """A table of words.

    Args:
        title: what it shows.
        columns: their heads; one that begins with `>` is of numbers and stands on the right, one with `>!` also
            stands out.
        rows: cells as they are to be read; nothing in them is markup.
        note: what to keep in mind.
    """

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    note: str = ""

    def __str__(self) -> str:
        heads = [c.lstrip(">!") for c in self.columns]
        widths = [max(map(len, column)) for column in zip(heads, *self.rows, strict=True)]
        right = [c.startswith(">") for c in self.columns]
        lines = [
            "  ".join(
                f"{cell:>{w}}" if r else f"{cell:{w}}" for cell, w, r in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in (heads, *self.rows)
        ]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])
