"""Units of measurement and how large they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

_PREFIXES = {
    "n": ("nano", -9),
    "µ": ("micro", -6),
    "m": ("milli", -3),
    "c": ("centi", -2),
    "d": ("deci", -1),
    "h": ("hecto", 2),
    "k": ("kilo", 3),
    "M": ("mega", 6),
    "G": ("giga", 9),
    "T": ("tera", 12),
    "P": ("peta", 15),
}
# symbol; words; factor; base units with their powers. The first table takes SI prefixes.
_PREFIXED = """
m; meter metre; 1; m
g; gram gramme; 0.001; kg
s; second sec; 1; s
A; ampere amp; 1; A
K; kelvin; 1; K
mol; mole; 1; mol
cd; candela; 1; cd
Hz; hertz; 1; s-1
N; newton; 1; kg m s-2
Pa; pascal; 1; kg m-1 s-2
J; joule; 1; kg m2 s-2
W; watt; 1; kg m2 s-3
C; coulomb; 1; A s
V; volt; 1; kg m2 s-3 A-1
F; farad; 1; kg-1 m-2 s4 A2
Ω; ohm; 1; kg m2 s-3 A-2
T; tesla; 1; kg s-2 A-1
Wb; weber; 1; kg m2 s-2 A-1
H; henry; 1; kg m2 s-2 A-2
L; liter litre; 0.001; m3
l; liter; 0.001; m3
eV; electronvolt; 1.602176634e-19; kg m2 s-2
Wh; watt-hour; 3600; kg m2 s-2
cal; calorie; 4.184; kg m2 s-2
bar; bar; 100000; kg m-1 s-2
B; byte; 8; bit
bit; bit; 1; bit
"""
_PLAIN = """
min; minute; 60; s
h; hour hr; 3600; s
d; day; 86400; s
wk; week; 604800; s
mo; month; 1/12; year
yr; year; 1; year
dec; decade; 10; year
c; century; 100; year
t; tonne; 1000; kg
in; inch; 0.0254; m
ft; foot; 0.3048; m
yd; yard; 0.9144; m
mi; mile; 1609.344; m
mph; mph; 0.44704; m s-1
lb; pound lbs; 0.45359237; kg
oz; ounce; 0.028349523125; kg
gal; gallon; 0.003785411784; m3
ha; hectare; 10000; m2
ac; acre; 4046.8564224; m2
atm; atmosphere; 101325; kg m-1 s-2
KiB; kibibyte; 8192; bit
MiB; mebibyte; 8388608; bit
GiB; gibibyte; 8589934592; bit
rad; radian; 1; rad
°; degree deg; 0.01745329251994329577; rad
%; percent; 0.01;
$; dollar usd; 1; usd
¢; cent; 0.01; usd
€; euro eur; 1; eur
£; gbp; 1; gbp
°C; celsius; 1; celsius
°F; fahrenheit; 1; fahrenheit
"""
_PLURALS = {"feet": "foot", "inches": "inch", "centuries": "century"}
_SPELLINGS = (
    (re.compile(r"\bdegrees? (?:celsius|centigrade)\b|° ?C\b|℃", re.IGNORECASE), "°C"),
    (re.compile(r"\bdegrees? fahrenheit\b|° ?F\b|℉", re.IGNORECASE), "°F"),
    (re.compile(r"\bper ?cent\b"), "%"),
    (re.compile(r"[\u00b5\u03bc](?=[a-zA-Z])"), "µ"),
    (re.compile(r"\b(?:square|sq\.?) (\w+)"), r"\1^2"),
    (re.compile(r"\bcubic (\w+)"), r"\1^3"),
    (re.compile(r"\b([a-zA-Z]+) squared\b"), r"\1^2"),
    (re.compile(r"\b([a-zA-Z]+) cubed\b"), r"\1^3"),
    (re.compile(r"\b(k?N|[kM]?W) (m|h)\b"), r"\1·\2"),
    (re.compile(r"(?<=[a-zA-Z]) (?=[a-zA-Z]+\^-\d)"), "·"),
    (re.compile(r"(?<=[a-zA-Z])\s+per\s+(?=[a-zA-Z])"), "/"),
    (re.compile(r"(?<=[a-zA-Z²³])\s*([/·])\s*(?=[a-zA-ZµΩ(])"), r"\1"),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measurement.

    Args:
        factor: its size in base units.
        dimension: the base units with their powers.
    """

    factor: Fraction = Fraction(1)
    dimension: tuple[tuple[str, int], ...] = ()


def respelled(text: str) -> str:
    """Text with its units in one spelling, so that each is one word.

    >>> respelled("20 square meters, 5 miles per hour")
    '20 meters^2, 5 miles/hour'
    """
    for pattern, to in _SPELLINGS:
        text = pattern.sub(to, text)
    return text


@lru_cache(maxsize=4096)
def read_unit(text: str) -> Unit | None:
    """The unit of that name or symbol, products, quotients and powers included; None if it is not known.

    °C, °F and K are not converted into each other; years and months are not converted to seconds.

    >>> read_unit("km/h").factor == Fraction(1000, 3600)
    True
    """
    factor, powers = Fraction(1), dict[str, int]()
    for place, side in enumerate(respelled(text).replace("²", "^2").replace("³", "^3").split("/")):
        for name in re.split(r"[\s·*]+", side.strip(" ()")):
            match = re.fullmatch(r"([^\d^]+?)(?:\^?\(?(-?\d)\)?)?", name)
            unit = _named(match[1]) if match else None
            if match is None or unit is None:
                return None
            power = int(match[2] or 1) * (1 if place == 0 else -1)
            factor *= unit.factor**power
            for base, exponent in unit.dimension:
                powers[base] = powers.get(base, 0) + exponent * power
    return Unit(factor, tuple(sorted((base, power) for base, power in powers.items() if power)))


def _named(name: str) -> Unit | None:
    """A symbol exactly, or a word in any case, singular or plural."""
    symbols, words = _tables()
    if name in symbols:
        return symbols[name]
    low = _PLURALS.get(name.lower(), name.lower())
    return words.get(low) or words.get(low.removesuffix("s"))


@cache
def _tables() -> tuple[dict[str, Unit], dict[str, Unit]]:
    """Units by symbol and by word; where a symbol could be read as two units, the one without prefix wins."""
    symbols, words = dict[str, Unit](), dict[str, Unit]()
    prefixed_symbols = dict[str, Unit]()
    for line in (_PREFIXED + _PLAIN).strip().splitlines():
        if not line:
            continue
        symbol, names, factor, bases = (part.strip() for part in line.split(";"))
        powers = [re.fullmatch(r"(\D+?)(-?\d+)?", base) for base in bases.split()]
        unit = Unit(Fraction(factor), tuple(sorted((m[1], int(m[2] or 1)) for m in powers if m)))
        symbols[symbol] = unit
        words.update(dict.fromkeys(names.split(), unit))
        if line in _PREFIXED:
            for prefix, (word, exponent) in _PREFIXES.items():
                larger = Unit(unit.factor * Fraction(10) ** exponent, unit.dimension)
                prefixed_symbols.setdefault(prefix + symbol, larger)
                words.update(dict.fromkeys((word + name for name in names.split()), larger))
    return prefixed_symbols | symbols, words
