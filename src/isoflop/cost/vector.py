"""The one measure: a vector of everything a computation spends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from typing import Literal, get_args

Axis = Literal[
    "flops",
    "bytes_moved",
    "peak_bytes",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "wall_s",
    "joules",
    "usd",
]
AXES: tuple[Axis, ...] = get_args(Axis)


def _max(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a computation spent, one axis a field, the unit in each name.

    Zero means free and NaN means unknown; an unknown spreads through every sum, so a total never hides a part that
    nobody could price. Costs add up in sequence with `then` and side by side with `beside`; both are commutative
    monoids with `Cost()` as their identity.

    Args:
        flops: floating-point operations (count; a multiply-add is two).
        bytes_moved: memory traffic (bytes).
        peak_bytes: memory held at the worst moment (bytes).
        tokens_in: prompt tokens computed (count).
        tokens_cached: prompt tokens taken from a cache (count).
        tokens_out: tokens generated, reasoning included (count).
        wall_s: elapsed time (seconds).
        joules: energy (joules).
        usd: money (US dollars).

    >>> Cost(tokens_out=3, wall_s=1).then(Cost(tokens_out=4, wall_s=2)).wall_s
    3
    >>> Cost(tokens_out=3, wall_s=1).beside(Cost(tokens_out=4, wall_s=2)).wall_s
    2
    """

    flops: float = 0
    bytes_moved: float = 0
    peak_bytes: float = 0
    tokens_in: float = 0
    tokens_cached: float = 0
    tokens_out: float = 0
    wall_s: float = 0
    joules: float = 0
    usd: float = 0

    def then(self, after: Cost) -> Cost:
        """The cost of this and, when it is done, of `after`: all axes add, peak memory is the larger one."""
        return Cost(
            self.flops + after.flops,
            self.bytes_moved + after.bytes_moved,
            _max(self.peak_bytes, after.peak_bytes),
            self.tokens_in + after.tokens_in,
            self.tokens_cached + after.tokens_cached,
            self.tokens_out + after.tokens_out,
            self.wall_s + after.wall_s,
            self.joules + after.joules,
            self.usd + after.usd,
        )

    def beside(self, other: Cost) -> Cost:
        """The cost of this and, at the same time, of `other`: all axes add, elapsed time is the longer one."""
        return Cost(
            self.flops + other.flops,
            self.bytes_moved + other.bytes_moved,
            self.peak_bytes + other.peak_bytes,
            self.tokens_in + other.tokens_in,
            self.tokens_cached + other.tokens_cached,
            self.tokens_out + other.tokens_out,
            _max(self.wall_s, other.wall_s),
            self.joules + other.joules,
            self.usd + other.usd,
        )

    def times(self, uses: float) -> Cost:
        """The cost of doing this `uses` times in sequence."""
        return Cost(
            *(
                getattr(self, axis) if axis == "peak_bytes" else (getattr(self, axis) * uses if uses else 0.0)
                for axis in AXES
            )
        )

    def __getitem__(self, axis: Axis) -> float:
        return getattr(self, axis)

    def as_dict(self) -> dict[Axis, float]:
        """The axes by name."""
        return {axis: self[axis] for axis in AXES}


assert tuple(f.name for f in fields(Cost)) == AXES

FREE = Cost()
UNKNOWN = Cost(*(math.nan for _ in AXES))


def in_sequence(costs: Iterable[Cost]) -> Cost:
    """All costs one after the other; `Cost()` for none."""
    return reduce(Cost.then, costs, FREE)


def in_parallel(costs: Iterable[Cost]) -> Cost:
    """All costs at the same time; `Cost()` for none."""
    return reduce(Cost.beside, costs, FREE)
