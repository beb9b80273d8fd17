import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.sandbox.compare import same, same_print

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json)
def test_a_value_is_the_same_as_itself_and_not_as_another(value):
    assert same(value, value)
    assert not same([value], value)
    assert not same(value, [value])


@given(st.floats(1e-3, 1e6), st.floats(1e-9, 1e-2))
def test_tolerance_is_absolute_or_relative(x, tolerance):
    assert same(x * (1 + 0.9 * tolerance), x, tolerance)
    assert not same(x + 2 * tolerance * max(1, x) + 1e-9, x, tolerance)


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        ((1, [2]), [1, (2,)], True),
        (True, 1, False),
        (0, False, False),
        (1, 1.0, True),
        ({"a": (1,)}, {"a": [1]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({1, 2}, {2, 1}, True),
        ({1}, [1], False),
        ("1", 1, False),
        (b"a", "a", False),
        (None, 0, False),
        ([1, 2], [1], False),
    ],
)
def test_what_counts_as_equal(value, expected, equal):
    assert same(value, expected) is equal


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_tolerance_makes_infinity_right(value):
    assert not same(value, 1.0, 1e-3)
    assert not same_print(str(value), "1.0", 1e-3)


@pytest.mark.parametrize(
    ("printed", "expected", "tolerance", "equal"),
    [
        ("1 2\n3\n", "1 2\n3", 0, True),
        ("1 2  \n3\n\n\n", "1 2\n3\n", 0, True),
        ("1  2\n3", "1 2\n3", 0, False),
        ("1  2\n3", "1 2\n3", 1e-6, True),
        ("1 2 3", "1 2\n3", 1e-6, False),
        ("0.333333", "0.3333333333", 1e-6, True),
        ("0.334", "0.3333333333", 1e-6, False),
        ("yes 0.1", "no 0.1", 1e-6, False),
        ("", "", 0, True),
        ("\n", "", 0, True),
        ("x", "", 0, False),
    ],
)
def test_printed(printed, expected, tolerance, equal):
    assert same_print(printed, expected, tolerance) is equal
