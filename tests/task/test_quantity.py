from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.task.quantity import quantities, quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("-5", -5),
        ("−5", -5),
        ("- 5", -5),
        ("+5", 5),
        ("$-5", -5),
        ("1,200", 1200),
        ("1,234,567.89", Fraction("1234567.89")),
        ("1 000 000", 10**6),
        ("1'000", 1000),
        ("1{,}000", 1000),
        (".5", Fraction(1, 2)),
        ("3.", 3),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("1 3/4", Fraction(7, 4)),
        ("1¾", Fraction(7, 4)),
        ("½", Fraction(1, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"\dfrac34", Fraction(3, 4)),
        (r"2\frac{3}{4}", Fraction(11, 4)),
        (r"$\frac{3}{4}$", Fraction(3, 4)),
        (r"\(5\)", 5),
        ("$5$", 5),
        ("1.2e3", 1200),
        ("1.2E-3", Fraction("0.0012")),
        ("1.2 x 10^3", 1200),
        ("1.2×10³", 1200),
        (r"1.2\times 10^{-3}", Fraction("0.0012")),
        ("3*10**8", 3 * 10**8),
        ("10^6", 10**6),
        ("10⁻³", Fraction("0.001")),
        ("5 million", 5 * 10**6),
        ("$80k", 80000),
        ("1.5 thousand", 1500),
        ("seven", 7),
        ("minus two", -2),
        ("twenty-one", 21),
        ("one hundred and five", 105),
        ("two thousand three hundred", 2300),
        ("**12**", 12),
        ("12 km", 12),
        ("007", 7),
    ],
)
def test_one_number(text: str, number: Fraction) -> None:
    found = quantity(text)
    assert found is not None
    assert found.number == number


NO_NUMBERS = ["1,5", "10-15", "2023-05-01", "12:30", "3.14.15", "1/2/3", "2^10", "2x", "x2", "x-5", "COVID-19", "1/0"]
NO_NUMBERS += ["1e999999999", "9" * 500, "1e-401", "12,34,56", "H2O", "", "many", "IPv6", "4x4"]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_no_number(text: str) -> None:
    assert quantities(text) == []


@pytest.mark.parametrize("text", ["5 or 6", "5 apples and pears", "about 5", "x = 5", "5, I think", "(5)", "6 ft 2 in"])
def test_more_than_a_number(text: str) -> None:
    assert quantity(text) is None
    assert quantities(text)


@pytest.mark.parametrize(
    ("text", "behind", "known"),
    [
        ("12", "", False),
        ("12 km", "km", True),
        ("12km", "km", True),
        ("12 km.", "km", True),
        (r"12\text{ cm}", "cm", True),
        (r"$12 \text{ cm}$", "cm", True),
        (r"12\,\mathrm{kg}", "kg", True),
        ("12 miles per hour", "miles/hour", True),
        ("12 m s^{-1}", "m·s^-1", True),
        ("50%", "%", True),
        (r"50\%", "%", True),
        ("$18.50", "$", True),
        ("$18 every day", "$", True),
        (r"90^\circ", "°", True),
        ("25 degrees Celsius", "°C", True),
        ("5 in", "in", True),
        ("seven days", "days", True),
        ("12 apples", "apples", False),
        ("5th", "", False),
    ],
)
def test_what_stands_behind(text: str, behind: str, known: bool) -> None:
    (found,) = quantities(text)
    assert (found.behind, found.unit is not None) == (behind, known)


def test_words_behind_a_number_that_are_no_units() -> None:
    assert [q.behind for q in quantities("5 in total, 6 and 7 is more than 8 of them")] == ["", "", "", ""]


def test_number_words_count_only_without_digits() -> None:
    assert [q.number for q in quantities("The answer is 5, the right one")] == [5]


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_do_not_matter(n: int) -> None:
    assert [q.number for q in quantities(f"it is {n:,} now")] == [n] == [q.number for q in quantities(f"it is {n} now")]


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=4))
def test_decimals_are_exact(d: object) -> None:
    (found,) = quantities(f"({d})")
    assert found.number == Fraction(str(d))


@given(st.text("0123456789.,-+/^eE$%kx() \\{}", max_size=30))
def test_any_text_is_read_or_not_but_breaks_nothing(text: str) -> None:
    for found in quantities(text):
        assert isinstance(found.number, Fraction)
