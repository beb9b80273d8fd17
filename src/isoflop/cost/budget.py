"""Budgets: a limit that always says of what."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from isoflop.cost.vector import AXES, Axis

_SI = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24}
# Units people write behind a number, by the axis they belong to, in that axis' own unit.
_UNITS: dict[Axis, dict[str, float]] = {
    "flops": {"FLOP": 1, "FLOPs": 1, "PFLOP-day": 8.64e19, "PF-day": 8.64e19},
    "bytes_moved": {"B": 1, "iB": 0},
    "peak_bytes": {"B": 1, "iB": 0},
    "wall_s": {"s": 1, "ms": 1e-3, "min": 60, "h": 3600, "d": 86400},
    "joules": {"J": 1, "Wh": 3600},
    "usd": {"USD": 1, "$": 1},
    "tokens_in": {"tok": 1, "tokens": 1},
    "tokens_cached": {"tok": 1, "tokens": 1},
    "tokens_out": {"tok": 1, "tokens": 1},
}
_NUMBER = re.compile(
    r"\s*\$?\s*([0-9][0-9_,]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(.*?)\s*"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be spent on one axis.

    Args:
        axis: what is limited; one of the fields of `Cost`.
        limit: how much of it (in the axis' unit); positive and finite.

    Raises:
        ValueError: unknown axis, or a limit that is not a positive finite number.

    >>> Budget.parse("wall_s=1.5h")
    Budget(axis='wall_s', limit=5400.0)
    >>> Budget.parse("tokens_out=20k").limit
    20000.0
    """

    axis: Axis
    limit: float

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"unknown cost axis {self.axis!r}; use one of {', '.join(AXES)}")
        if not (self.limit > 0 and math.isfinite(self.limit)):
            raise ValueError(f"budget {self.axis}={self.limit:g} must be a positive finite number")

    @staticmethod
    def parse(words: str) -> Budget:
        """A budget from words: `axis=number`, then an SI prefix, a unit, or both (`flops=1.5P`, `joules=2 kWh`).

        Raises:
            ValueError: the words name no axis, no number, or a unit that this axis does not have.
        """
        axis, equals, amount = words.partition("=")
        axis = axis.strip()
        if not equals or axis not in AXES:
            raise ValueError(f"budget {words!r} must read axis=amount with an axis out of {', '.join(AXES)}")
        match = _NUMBER.fullmatch(amount)
        if match is None:
            raise ValueError(
                f"budget {words!r}: {amount.strip()!r} is not a positive number with an optional unit (20k, 1.5e6)"
            )
        number, unit = match.groups()
        return Budget(axis, float(re.sub("[_,]", "", number)) * _scale(axis, unit, words))

    def __str__(self) -> str:
        return f"{self.axis}={self.limit:g}"


def _scale(axis: Axis, unit: str, words: str) -> float:
    units = _UNITS[axis]
    if unit in _SI and not (unit and unit in units):
        return _SI[unit]
    if unit in units:
        return units[unit]
    for name, size in units.items():
        if unit.endswith(name) and (prefix := unit.removesuffix(name).rstrip()) in _SI:
            if name == "iB":
                return 1024.0 ** (list(_SI).index(prefix.upper()) - 1)
            return _SI[prefix] * size
    raise ValueError(
        f"budget {words!r}: unit {unit!r} does not fit the axis {axis}; "
        f"use one of {', '.join(units)}, or an SI prefix (k, M, G, T, P, E)"
    )
