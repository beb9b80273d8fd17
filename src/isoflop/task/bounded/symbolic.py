"""Mathematical answers read and compared with `math-verify`."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (sympy has no types)

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

# Units are for the grader: here they would be dropped, and with them variables of their names (5m).
_LATEX = LatexExtractionConfig(boxed_match_priority=0)
_READING = replace(_LATEX, normalization_config=replace(_LATEX.normalization_config, units=False))
logging.disable(logging.WARNING)  # it warns that its own time limit is off; the worker has one


@lru_cache(maxsize=4096)
def _read(answer: str) -> tuple[Any, ...]:
    return tuple(parse(rf"\boxed{{{answer}}}", [_READING], parsing_timeout=0))  # 0: no limit of its own


def form(answer: str) -> str | None:
    """An expanded, simplified form; None if the answer cannot be read as mathematics."""
    expression = next((e for e in _read(answer) if not isinstance(e, str)), None)
    if expression is None:
        return None
    if isinstance(expression, sympy.Eq) and isinstance(expression.lhs, sympy.Symbol):
        expression = expression.rhs  # x = 5 is 5
    with contextlib.suppress(
        AttributeError, TypeError, NotImplementedError
    ):  # what has no simpler form, as sets of words
        expression = sympy.expand(sympy.simplify(expression.doit()))
    return f"{type(expression).__name__ if isinstance(expression, sympy.Set | sympy.MatrixBase) else ''}{expression}"


def same(a: str, b: str) -> bool:
    """Whether two answers are equal, whichever of them is taken for the right one."""
    x, y = list(_read(a)), list(_read(b))
    return bool(verify(x, y, timeout_seconds=None) or verify(y, x, timeout_seconds=None))
