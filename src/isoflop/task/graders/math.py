"""Mathematical expressions, equal as mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from itertools import combinations, product
from typing import final

from isoflop.task.base import Grader, GraderError, Question, TaskError
from isoflop.task.completion import Take, places
from isoflop.task.graders.exact import normal
from isoflop.task.graders.numeric import Numeric
from isoflop.task.quantity import Quantity, quantities, quantity
from isoflop.task.units import read_unit
from isoflop.task.worker import OverLimit, worker

_WORDS, _UNREAD = "words: ", "text: "
_LONGEST = 1000
"""No formula longer than this is read (characters)."""
_FORMULA = re.compile(
    r"""
      \$\$(.+?)\$\$
    | \\\[((?:(?!\\\[).)+?)\\\]
    | \\\(((?:(?!\\\().)+?)\\\)
    | (?<![\\\w])\$(?!\s)([^$\n]+?)(?<![\s\\])\$(?!\d)  # not the dollars of "$5 and $6"
    """,
    re.DOTALL | re.VERBOSE,
)
_JOINED = re.compile(r"\s*(?:,|,?\s*\b(?:or|and)\b)\s*")
_PROSE = re.compile(r"\n|(?<!\\)\b[A-Za-z']{2,}[,:]?\s+[A-Za-z']{2,}")
_UNIT = re.compile(r"(?<=\S)\s*(?:\\[,;: ]\s*)*(?:\\(?:text|mathrm)\s*\{\s*([^{}]+?)\s*\}|(?<=\s)([A-Za-z]{2,}))$")
_REASONS = re.compile(r"\s(?:because|since|which|so that)\b|,\s+(?:because|since|which|so|as)\b")
_WORD = re.compile(r"\\(?:text|mathrm|textbf)\s*\{[^{}\\]*[A-Za-z]{2}[^{}\\]*\}|[A-Za-z]{3,}(?:[ -][A-Za-z]+)*")
_FUNCTIONS = re.compile(
    r"(?:arc|a)?(?:sin|cos|tan|cot|sec|csc)h?|exp|log|ln|sqrt|pi|inf(?:ty|inity)?|abs|min|max|mod|det"
)


@final
@dataclass(frozen=True, slots=True)
class Math(Grader):
    r"""The answer is mathematics: right if it is equal, whatever its form (`math-verify`, extra `math`).

    Fractions, roots, expressions, equations, sets, intervals, matrices, in LaTeX or plain. Numbers and numbers with
    units follow `numeric` (its rules for units hold); a single letter behind a number is a variable unless it stands in
    `\text{}`. Words are compared as words. `\{1,2\}` is not `(1,2)`; `x=5` is `5`; an equation is its multiples.

    Looks for `\boxed{}`, then for "the answer is", then for the last formula; a line without prose is one as a whole,
    and in prose without formulas the last number is.

    Comparing runs in a process of its own with a limit of CPU time. An answer that cannot be simplified within it
    (10^{10^{10}}) is wrong; two that can, but cannot be compared within it, are the grader's fault, and vote apart.

    Args:
        unit: the unit of bare numbers, as of `numeric`.
        take: where in a completion the answer is.
        cpu_s: the most CPU time for one comparison (seconds).
    """

    unit: str | None = None
    take: Take = "auto"
    cpu_s: float = 3.0

    def __post_init__(self) -> None:
        if find_spec("math_verify") is None:
            raise TaskError("grader 'math'", ["needs math-verify: pip install 'isoflop[math]'"])

    def extract(self, text: str) -> str | None:
        """The formula of the answer."""
        for place, piece in places(text, self.take, "whole"):
            formulas = _formulas(piece)
            if place == "boxed":
                return piece
            if place == "stated":
                return formulas[0] if formulas else _REASONS.split(piece, maxsplit=1)[0].strip()
            if formulas:
                return formulas[-1]
            if self.take != "auto" or not _PROSE.search(piece.strip()):
                return piece.strip()
            if found := quantities(piece):
                return found[-1].text
        return None

    def canonical(self, answer: str) -> str:
        """The exact number, the normal words, or the simplified expression; the text itself if it cannot be read."""
        if len(answer) > _LONGEST:
            return f"{_UNREAD}{answer}"
        if _quantity(answer):
            return self._numeric.canonical(answer)
        if _is_words(answer):
            return f"{_WORDS}{normal(answer)}"
        return _form(_without_unit(answer), self.cpu_s) or f"{_UNREAD}{' '.join(answer.split())}"

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are equal; no, if that could not be told."""
        try:
            return self._equal(a, b) is True
        except GraderError:
            return False

    def grade(self, answer: str, question: Question) -> float:
        """1 for what equals the answer or an alias.

        Raises:
            GraderError: the comparison went over its limit, although the answer is not to blame.
        """
        told = [self._equal(answer, right) for right in (question.answer, *question.aliases)]
        if None in told and not any(told):
            raise GraderError(f"{answer!r} and {question.answer!r} cannot be compared in {self.cpu_s:g} s of CPU time")
        return float(any(told))

    def pairs(self, answers: Sequence[str]) -> Iterable[tuple[int, int]]:
        """Neighbours among the numbers, and every formula with all others."""
        numbers = [i for i, answer in enumerate(answers) if _quantity(answer)]
        formulas = [i for i, answer in enumerate(answers) if not (_quantity(answer) or _is_words(answer))]
        for a, b in self._numeric.pairs([answers[i] for i in numbers]):
            yield numbers[a], numbers[b]
        yield from combinations(formulas, 2)
        yield from product(formulas, numbers)

    def suited(self, answer: str) -> Math:
        """With the unit of the right answer as that of bare numbers."""
        if self.unit is not None:
            return self
        right = _quantity(answer)
        return replace(self, unit=right.behind if right and right.unit else "")

    @property
    def _numeric(self) -> Numeric:
        return Numeric(unit=self.unit or "")

    def _equal(self, a: str, b: str) -> bool | None:
        """Whether two answers are equal; None if it could not be told."""
        forms = self.canonical(a), self.canonical(b)
        if forms[0] == forms[1]:
            return True
        if _quantity(a) and _quantity(b):
            return self._numeric.same(a, b)
        if any(form.startswith((_UNREAD, _WORDS)) for form in forms) or {_brackets(a), _brackets(b)} == {"set", "row"}:
            return False
        return _same(*sorted((_without_unit(a), _without_unit(b))), self.cpu_s)


def _formulas(text: str) -> list[str]:
    """The formulas in a text, those joined by "or", "and" or a comma as one."""
    found: list[str] = []
    end = -1
    for match in _FORMULA.finditer(text):
        if found and _JOINED.fullmatch(text, end, match.start()):
            found[-1] += f", {_inside(match)}"
        else:
            found.append(_inside(match))
        end = match.end()
    return found


def _bare(answer: str) -> str:
    """A formula without the marks around it."""
    answer = answer.strip().rstrip(".").strip()
    match = _FORMULA.fullmatch(answer)
    return _inside(match) if match else answer


def _inside(match: re.Match[str]) -> str:
    """What stands between the marks of a formula."""
    return str(match[match.lastindex or 0]).strip()


def _without_unit(answer: str) -> str:
    """A formula without the unit behind it: that is compared only behind plain numbers."""
    bare = _bare(answer)
    match = _UNIT.search(bare)
    return bare[: match.start()].strip() if match and read_unit(match[1] or match[2]) else bare


def _brackets(answer: str) -> str:
    """Whether an answer is written as a set or as a point, row or interval; empty if as neither."""
    bare = _bare(answer)
    if bare.startswith(r"\{"):
        return "set"
    return "row" if bare.startswith(("(", "[")) and bare.endswith((")", "]")) else ""


def _is_words(answer: str) -> bool:
    bare = _bare(answer)
    return bool(_WORD.fullmatch(bare)) and not _FUNCTIONS.fullmatch(bare)


@lru_cache(maxsize=65536)
def _quantity(answer: str) -> Quantity | None:
    """The number that an answer is, unless the letter behind it is a variable."""
    found = quantity(_bare(answer))
    if found is None or (found.behind and found.unit is None):
        return None
    variable = len(found.behind) == 1 and found.behind.isalpha() and not re.search(r"\\(?:text|mathrm)", answer)
    return None if variable else found


@lru_cache(maxsize=65536)
def _form(answer: str, cpu_s: float) -> str | None:
    try:
        form = worker("symbolic").call("form", answer, cpu_s=cpu_s)
    except (OverLimit, GraderError):
        return None
    return None if form is None else str(form)


@lru_cache(maxsize=65536)
def _same(a: str, b: str, cpu_s: float) -> bool | None:
    try:
        return bool(worker("symbolic").call("same", a, b, cpu_s=cpu_s))
    except OverLimit:
        return None
