"""Numbers as people and models write them, with what stands behind them; exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from isoflop.task.units import Unit, read_unit, respelled

_MOST_DIGITS = 400
"""A longer number is nobody's answer, and a larger power of ten would fill the memory."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_VULGAR = {
    **{"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"},
    **{"⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"},
}
_MULTIPLES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "k": 10**3}
_WORDS = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16},
    **{"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
}
_WORD = "|".join([*_WORDS, "hundred", "thousand", "million"])
_IN_WORDS = re.compile(rf"\b(minus |negative )?((?:{_WORD})(?:(?: and |[ -])(?:{_WORD}))*)\b", re.IGNORECASE)

# Digits that touch others through one of -:,./^ belong to something else: a range, a date, a version, "1,5". So do
# those inside a function or before a symbol: sqrt(2), 2\pi.
_NUMBER = re.compile(
    r"""
    (?<![\w^.){√]) (?<!\d[,:]) (?<![\w)}]/) (?<![A-Za-z]\() (?<![\w)^][-–])
    (?P<sign>[-+]?)[ ]?[$€£]?[ ]?(?P<inner_sign>-?)
    (?:
        (?:(?P<whole>\d++)[ ]+(?:and[ ])?)? (?P<top>\d++)[ ]?/[ ]?(?P<bottom>\d++)(?!\.\d)   # 3/4, 1 3/4
      | 10(?:\^|\*\*)(?P<power>\(?[-+]?\d++\)?)                                              # 10^6
      | (?P<digits>\d{1,3}(?:[ ,'’_\u00a0\u2009\u202f]\d{3})++(?:\.\d++)? | \d++(?:\.\d++)? | \.\d++)
        (?:[eE](?P<e>[-+]?\d++) | [ ]?[×x*·][ ]?10[ ]?(?:\^|\*\*)[ ]?(?P<times>\(?[-+]?\d++\)?))?
    )
    (?![-–:,./^'’_]?\d) (?![ ]?(?:\\[A-Za-z]|√))
    """,
    re.VERBOSE,
)
_MULTIPLE = re.compile(r" ?(hundred|thousand|million|billion|trillion)\b|[kK](?![A-Za-z])")
_BEHIND = re.compile(r"( ?)([^\s,;!?()\[\]{}\"=+<>|\\]+(?:\([^()]*\))?)(\s+\w)?")
_ORDINALS = ("st", "nd", "rd", "th")
# Words that may follow a number without being its unit.
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        """a about above ago and apart approximately are as at away because below but by deep each else equal exactly
        for from high if in is less long more of old on only or over per since so tall than that the then there this
        times to total under when which while wide with x""",
    )
)
_LATEX = (
    (re.compile(r"(?<!\\)\$(?!\s)([^$\n]+)(?<![\s\\])\$(?!\d)"), r" \1 "),  # a formula between dollars
    (re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree"), "°"),
    (re.compile(r"\\times|\\cdot"), "×"),
    (re.compile(r"\{,\}|,\\!"), ","),
    (re.compile(r"\\[,;: ]|~"), " "),
    (re.compile(r"\\([%$€£])"), r"\1"),
    (re.compile(r"\^\s*\{\s*([-+]?\d+)\s*\}"), r"^\1"),
    (re.compile(r"\\[()\[\]]|\$(?=\s*[^\s\d.-])"), " "),
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what is written behind it.

    Args:
        number: as written, without its unit.
        behind: its unit as written, or the word that stands where a unit would (`12 apples`); empty if there is none.
        unit: what `behind` is; None where that is empty or no known unit.
        text: the words it was read from.
    """

    number: Fraction
    behind: str
    unit: Unit | None
    text: str


def quantities(text: str) -> list[Quantity]:
    """All numbers in `text`, in order; those in words only if there are no digits.

    >>> [str(q.number) for q in quantities("He ate 1/2 of 1,200 and 3.5e2.")]
    ['1/2', '1200', '350']
    """
    text = _plain(text)
    found: list[Quantity] = []
    for match in _NUMBER.finditer(text):
        number = _value(match)
        if number is None:
            continue
        end = match.end()
        if multiple := _MULTIPLE.match(text, end):
            number *= _MULTIPLES[(multiple[1] or "k").lower()]
            end = multiple.end()
        behind, unit, after = _behind(text, end)
        if behind and unit is None and text[end].isalpha():
            continue  # 2x is no number
        if unit is None and (sign := re.search(r"[$€£]", match[0])):
            behind, unit, after = sign[0], read_unit(sign[0]), end
        found.append(Quantity(number, behind, unit, text[match.start() : after].strip()))
    if not found and not re.search(r"\d", text):
        for match in _IN_WORDS.finditer(text):
            behind, unit, end = _behind(text, match.end())
            number = _from_words(match[2].lower()) * (-1 if match[1] else 1)
            found.append(Quantity(number, behind, unit, text[match.start() : end].strip()))
    return found


@lru_cache(maxsize=65536)
def quantity(text: str) -> Quantity | None:
    """The one quantity that `text` consists of, or None if there is more to it, or none in it.

    >>> quantity("1,200 km").number
    Fraction(1200, 1)
    """
    found = quantities(text) if len(text) <= 2 * _MOST_DIGITS else []
    if len(found) != 1:
        return None
    rest = _plain(text).replace(found[0].text, "", 1)
    return None if re.search(r"[^\s.*_`$]", rest) else found[0]


def _plain(text: str) -> str:
    """LaTeX, typographic signs and names of units brought to one spelling."""
    text = text.replace("−", "-").replace("\u2011", "-")
    for sign, fraction in _VULGAR.items():
        if sign in text:
            text = text.replace(sign, f" {fraction}")
    if "\\" in text or "{" in text or "$" in text:
        for pattern, to in _LATEX:
            text = pattern.sub(to, text)
    if not re.search(r"[^\d\s.,+/$-]", text):
        return text
    text = re.sub(r"(?<=[\w)])[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    return respelled(re.sub(r"[ \t]+", " ", text))


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > _MOST_DIGITS:
        return None
    sign = -1 if "-" in (match["sign"], match["inner_sign"]) else 1
    if match["top"]:
        bottom = int(match["bottom"])
        return sign * (int(match["whole"] or 0) + Fraction(int(match["top"]), bottom)) if bottom else None
    exponent = (match["power"] or match["e"] or match["times"] or "0").strip("()")
    if len(exponent) > 4 or abs(int(exponent)) > _MOST_DIGITS:
        return None
    return sign * Fraction(re.sub(r"[^\d.]", "", match["digits"] or "1")) * Fraction(10) ** int(exponent)


def _from_words(words: str) -> Fraction:
    total = part = 0
    for word in re.split(r"[ -]+", words):
        if word == "hundred":
            part = (part or 1) * 100
        elif word in ("thousand", "million"):
            total, part = total + (part or 1) * _MULTIPLES[word], 0
        else:
            part += _WORDS.get(word, 0)
    return Fraction(total + part)


def _behind(text: str, at: int) -> tuple[str, Unit | None, int]:
    """What follows a number: its unit or a word, what that is, and where it ends."""
    match = _BEHIND.match(text, at)
    name = match[2].rstrip(".:*_`-–'$") if match else ""
    if match is None or not name:
        return "", None, at
    word, end = name.lower(), match.start(2) + len(name)
    # "5 in total" against "5 in": a unit that is also a word stands at the end of its phrase.
    if word in _NOT_UNITS and match[1] and (match[3] or read_unit(name) is None):
        return "", None, at
    unit = read_unit(name)
    if unit is None and (not name[0].isalpha() or (not match[1] and word in _ORDINALS)):
        return "", None, at
    return name, unit, end
