"""When a result counts as the expected one."""

from __future__ import annotations

import math
from typing import Any


def same(value: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two plain values are equal as results: tuples and lists count as the same, True and 1 do not.

    Args:
        value: what was returned.
        expected: what should have been.
        tolerance: largest absolute or relative difference of two numbers, one of them a float, that count as equal.

    >>> same((1, [2.0]), [1, (2,)]), same(True, 1), same(0.1 + 0.2, 0.3, 1e-9)
    (True, False, True)
    """
    kinds: set[type[Any]] = {type(value), type(expected)}
    if kinds <= {list, tuple}:
        return len(value) == len(expected) and all(same(a, b, tolerance) for a, b in zip(value, expected))
    if kinds == {dict}:
        return value.keys() == expected.keys() and all(same(value[k], expected[k], tolerance) for k in expected)
    if float in kinds and kinds <= {int, float}:
        return math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
    return len(kinds) == 1 and value == expected


def same_print(printed: str, expected: str, tolerance: float = 0.0) -> bool:
    r"""Whether two outputs are equal but for white space at the ends of lines and blank lines at the end.

    Args:
        printed: what was printed.
        expected: what should have been.
        tolerance: if not 0, words that are numbers may differ by this much, absolutely or relatively.

    >>> same_print("1 \n2\n\n", "1\n2"), same_print("1 2", "1\n2"), same_print("0.3333", "0.33333", 1e-3)
    (True, False, True)
    """
    lines, expected_lines = ([line.rstrip() for line in text.rstrip().split("\n")] for text in (printed, expected))
    if lines == expected_lines or not tolerance or len(lines) != len(expected_lines):
        return lines == expected_lines
    return all(
        len(words) == len(expected_words) and all(map(_same_word, words, expected_words, [tolerance] * len(words)))
        for words, expected_words in zip(map(str.split, lines), map(str.split, expected_lines))
    )


def _same_word(word: str, expected: str, tolerance: float) -> bool:
    if word == expected:
        return True
    try:
        return math.isclose(float(word), float(expected), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False
