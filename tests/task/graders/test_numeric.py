import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.task.graders.numeric import Numeric


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        ("The answer is 12.", "12"),
        ("16 - 3 - 4 = 9 eggs, 9 * 2 = 18 dollars.\n#### 18", "18"),
        ("So 3 + 4 = 7. The answer is 3 + 4 = **7** eggs, not 8.", "7"),
        (r"We get \boxed{1{,}200}.", "1,200"),
        (r"It is \boxed{x = 12 \text{ km}}, or 12000 m.", "12 km"),
        ("There are 5 and 6, so 11", "11"),
        (" 8\n\nQ: How many legs has an ant?\nA: 6", "8"),
        ("A spider has eight legs", "eight legs"),
        ("Answer: $18.50", "$18.50"),
        (r"\boxed{12", None),
        ("<think>5", None),
        ("no idea", None),
        ("10-15", None),
        ("", None),
    ],
)
def test_extract(completion: str, found: str | None) -> None:
    assert Numeric().extract(completion) == found


@pytest.mark.parametrize(
    ("answer", "completion", "right_"),
    [
        ("12", "12", True),
        ("12", "12.0", True),
        ("12", "120", False),
        ("12", "1.2", False),
        ("12", "-12", False),
        ("12", "twelve", True),
        ("12", "12 eggs", True),  # bare: only the number counts
        ("12", "$12", True),
        ("1200", "1,200", True),
        ("1200", "1.2e3", True),
        ("15", "1,5", None),
        ("5", "1,5", None),
        ("0.5", "1/2", True),
        ("1/3", "0.333", False),
        ("1/3", "0.3333333", True),
        ("80", "80k", False),
        ("12 km", "12", True),
        ("12 km", "12 km", True),
        ("12 km", "12000 m", True),
        ("12 km", "12 kilometers", True),
        ("12 km", "12 m", False),
        ("12 km", "12 kg", False),
        ("12 km", "12 apples", False),
        ("12 km", "12 parsecs", False),
        ("12 km", "12000", False),
        ("90 km/h", "25 m/s", True),
        ("50%", "50", True),
        ("50%", "50 percent", True),
        ("50%", "0.5", False),
        ("$18", "18 dollars", True),
        ("$18", "1800 cents", True),
        ("$18", "€18", False),
        ("25 °C", "25 K", False),
        ("2 hours", "120 minutes", True),
    ],
)
def test_grade(right: Callable[..., bool | None], answer: str, completion: str, right_: bool | None) -> None:
    assert right(completion, answer, "numeric") is right_


def test_tolerances(right: Callable[..., bool | None]) -> None:
    assert right("3.1", "3.14159", "numeric", options={"rel": 0.02}) is True
    assert right("3.0", "3.14159", "numeric", options={"rel": 0.02}) is False
    assert right("3.1", "3", "numeric", options={"abs": 0.1}) is True  # the tolerance as written, not as a float
    assert right("3.11", "3", "numeric", options={"abs": 0.1}) is False
    assert right("3.1", "3", "numeric", options={"abs": 100, "unit": "m"}) is True
    assert right("5.00001", "5", "numeric", options={"rel": 0, "abs": 0}) is False
    assert right("12 m", "12 km", "numeric", options={"abs": 12}) is True  # the tolerance is in the question's unit


def test_units_by_option(right: Callable[..., bool | None]) -> None:
    assert right("12", "12", "numeric", options={"unit": "km"}) is True
    assert right("12 m", "12", "numeric", options={"unit": "km"}) is False
    assert right("12", "12 km", "numeric", options={"unit_required": True}) is False
    assert right("12 kg", "12 km", "numeric", options={"unit": ""}) is True


def test_take(right: Callable[..., bool | None]) -> None:
    text = "It is 5.\nNo, 6."
    assert right(text, "6", "numeric") is True
    assert right(text, "5", "numeric", options={"take": "first_line"}) is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rel": -1}, "rel=-1"),
        ({"rel": 1}, "rel=1"),
        ({"abs": float("inf")}, "abs=inf"),
        ({"unit": "parsnips"}, "'parsnips' is not known"),
        ({"unit": "", "unit_required": True}, "needs a unit"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Numeric(**options)  # pyright: ignore[reportArgumentType]


numbers = st.fractions(-1000, 1000, max_denominator=50)
answers = st.one_of(
    numbers.map(str),
    st.tuples(numbers, st.sampled_from(["km", "m", "kg", "apples", "%"])).map(lambda p: f"{p[0]} {p[1]}"),
    st.sampled_from(["many", "", "1,5", "12"]),
)


@given(
    answers,
    answers,
    st.sampled_from([Numeric(), Numeric(unit="km"), Numeric(rel=0.1, abs=1), Numeric(unit="m", unit_required=True)]),
)
def test_same_is_reflexive_symmetric_and_implied_by_canonical(a: str, b: str, grader: Numeric) -> None:
    assert grader.same(a, a)
    assert grader.same(a, b) == grader.same(b, a)
    assert grader.canonical(a) != grader.canonical(b) or grader.same(a, b)


@given(numbers, st.fractions(0, Fraction(1, 100)))
def test_within_the_tolerance(number: Fraction, error: Fraction) -> None:
    assert Numeric(rel=0.01).same(str(number), str(number * (1 - error)))
    assert number == 0 or not Numeric(rel=0.01).same(str(number), str(number * Fraction(102, 100)))


@given(
    st.lists(st.integers(-30, 30).map(str), max_size=10),
    st.sampled_from([Numeric(abs=1), Numeric(rel=0.2), Numeric(rel=0.1, abs=2)]),
)
def test_groups_by_neighbours_are_those_by_all_pairs(answers: list[str], grader: Numeric) -> None:
    reached = {(i, j): grader.same(a, b) for i, a in enumerate(answers) for j, b in enumerate(answers)}
    for via, i, j in itertools.product(range(len(answers)), repeat=3):
        reached[i, j] = reached[i, j] or (reached[i, via] and reached[via, j])
    groups = grader.groups(answers)
    assert {pair for pair, together in reached.items() if together} == {
        (i, j) for i in range(len(answers)) for j in range(len(answers)) if groups[i] == groups[j]
    }


def test_votes_of_close_numbers_are_one_group() -> None:
    assert Numeric(abs=1).groups(["1", "3", "2", "9"]) == [0, 0, 0, 3]
