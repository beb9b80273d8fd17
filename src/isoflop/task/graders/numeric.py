"""Numbers, with a tolerance and units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import final

from isoflop.task.base import Grader
from isoflop.task.completion import Take, places
from isoflop.task.quantity import quantities, quantity
from isoflop.task.units import read_unit


@final
@dataclass(frozen=True, slots=True)
class Numeric(Grader):
    r"""The answer is a number: right within a tolerance, in any unit of the right dimension.

    Reads 1,200 and 1.2e3, 1.2 x 10^3 and 1.2 thousand, 3/4, 1 3/4 and ¾, LaTeX, 50%, $5, and numbers in words where
    there are no digits. "1,5" is no number: it may mean 1.5, and may be a list.

    Looks for `\boxed{}`, then for "the answer is", then for the last number.

    Units: `unit` is the unit of a number written without one; by default it is that of the question's right answer.
    Where that has none, only the numbers are compared and what stands behind them is not ("18", "18 eggs", "$18"), nor
    is it converted: 0.5 km is not 500. Where it has one, a bare number counts as being in it, a unit of the same
    dimension is converted, and any other unit or word behind the number is wrong ("12 kg", "12 apples").
    Percent is a unit: 50% is 50 to a question that asks for a percentage, never 0.5.

    Args:
        rel: tolerance, as a fraction of the larger of the two numbers.
        abs: tolerance in `unit`; the wider of the two tolerances counts.
        unit: the unit of bare numbers; "" compares numbers only.
        unit_required: a number without unit is wrong.
        take: where in a completion the number is; the last one there, but the first one of a statement.
    """

    rel: float = 1e-6
    abs: float = 0.0
    unit: str | None = None
    unit_required: bool = False
    take: Take = "auto"

    def __post_init__(self) -> None:
        if not (0 <= self.rel < 1 and 0 <= self.abs < float("inf")):
            raise ValueError(f"rel={self.rel:g} must lie in [0, 1) and abs={self.abs:g} must not be negative")
        if self.unit and read_unit(self.unit) is None:
            raise ValueError(f"unit {self.unit!r} is not known; write one like km/h, kg, USD or %")
        if self.unit_required and self.unit == "":
            raise ValueError("unit_required needs a unit")

    def extract(self, text: str) -> str | None:
        """The number with what stands behind it."""
        for place, piece in places(text, self.take, "whole"):
            found = quantities(piece.rpartition("=")[2] if place == "stated" else piece)
            if found:
                return found[0 if place == "stated" else -1].text
        return None

    def canonical(self, answer: str) -> str:
        """The exact number in the question's unit, or the words themselves if they are none."""
        return _read(answer, self.unit or "", self.unit_required)[1]

    def same(self, a: str, b: str) -> bool:
        """Whether two numbers are within the tolerance of each other."""
        x, x_words = _read(a, self.unit or "", self.unit_required)
        y, y_words = _read(b, self.unit or "", self.unit_required)
        if x is None or y is None:
            return x_words == y_words
        return abs(x - y) <= max(_exact(self.abs), _exact(self.rel) * max(abs(x), abs(y)))

    def pairs(self, answers: Sequence[str]) -> Iterable[tuple[int, int]]:
        """Neighbours on the line: if two numbers are within the tolerance, so are all between them."""
        read = ((_read(answer, self.unit or "", self.unit_required)[0], i) for i, answer in enumerate(answers))
        return pairwise(i for _, i in sorted((number, i) for number, i in read if number is not None))

    def suited(self, answer: str) -> Numeric:
        """With the unit of the right answer as that of bare numbers."""
        if self.unit is not None:
            return self
        right = quantity(answer)
        return replace(self, unit=right.behind if right and right.unit else "")


@lru_cache(maxsize=65536)
def _read(answer: str, unit: str, unit_required: bool) -> tuple[Fraction | None, str]:
    """An answer in the unit asked for, with its canonical words; no number, if it is none or in another dimension."""
    words = f"text: {' '.join(answer.casefold().split())}"
    found = quantity(answer)
    if found is None:
        return None, words
    if not unit:
        return found.number, str(found.number)
    if not found.behind:
        return (None, words) if unit_required else (found.number, str(found.number))
    asked = read_unit(unit)
    if asked is None or found.unit is None or found.unit.dimension != asked.dimension:
        return None, words
    number = found.number * found.unit.factor / asked.factor
    return number, str(number)


@lru_cache(maxsize=64)
def _exact(tolerance: float) -> Fraction:
    """The decimal number as written, so that a tolerance of 0.1 includes a difference of 0.1."""
    return Fraction(repr(tolerance))
