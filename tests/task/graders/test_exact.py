from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.task.graders.exact import Exact, normal

SAME = [
    ("Paris", "paris"),
    ("Paris", " Paris. "),
    ("Paris", "**Paris**"),
    ("Paris", r"\text{Paris}"),
    ("the Beatles", "Beatles"),
    ("a cat", "cat"),
    ("don't", "don’t"),
    ("dont", "don't"),
    ("twenty-one", "twenty one"),
    ("1,000", "1000"),
    ("U.S.", "US"),
    ("New   York", "new york"),
    ('"Hamlet"', "Hamlet"),
    ("¿Qué?", "qué"),
    ("(yes)", "Yes!"),
    ("cafe\u0301", "caf\u00e9"),
]
DIFFERENT = [
    ("no", "I do not know"),
    ("no", "not"),
    ("Paris", "Paris, Texas"),
    ("1.5", "15"),
    ("1,5", "15"),
    ("-5", "5"),
    (".5", "5"),
    ("1/2", "12"),
    ("3:30", "330"),
    ("x²", "x2"),
    ("C++", "C"),
    ("C#", "C"),
    ("50%", "50"),
    ("$5", "5"),
    ("vitamin A", "vitamin"),
    ("!", "?"),
    ("the", ""),
    ("café", "cafe"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert Exact().same(a, b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert not Exact().same(a, b)


@pytest.mark.parametrize(
    ("completion", "right_"),
    [
        (" Paris\n\nQ: And Spain?\nA: Madrid", True),
        ("The answer is: **Paris**.", True),
        ("I think so.\nAnswer: Paris", True),
        (r"\boxed{\text{Paris}}", True),
        ("<think>London? No.</think>Paris", True),
        ("Paris is the capital of France", False),  # not a part of the first line
        ("London. The answer is not Paris", False),
        ("Not Paris", False),
        ("<think>Paris", None),
        ("", None),
        ("\n \n", None),
        (r"\boxed{Paris", None),
        ("...", None),
    ],
)
def test_completions(right: Callable[..., bool | None], completion: str, right_: bool | None) -> None:
    assert right(completion, "Paris", "exact") is right_


def test_options(right: Callable[..., bool | None]) -> None:
    assert right("paris", "Paris", "exact", options={"case": True}) is False
    assert right("So:\nParis", "Paris", "exact", options={"take": "last_line"}) is True
    assert right("Paris\nor not", "Paris", "exact", options={"take": "whole"}) is False
    assert right("Holland", "Netherlands", "exact", aliases=["Holland"]) is True


@given(st.text(max_size=30))
def test_spaces_around_and_a_stop_never_matter(text: str) -> None:
    assert normal(f"  {text} ") == normal(text)
    assert normal(f"x{text}x.") == normal(f"x{text}x")


@given(
    st.lists(
        st.sampled_from(["the", "a", "cat", "cats", "no", "New-York", "1,000", "1.5", "C++", "!"]),
        min_size=1,
        max_size=4,
    )
)
def test_case_and_spaces_never_matter(words: list[str]) -> None:
    assert Exact().same(" ".join(words), "  ".join(words).upper())
