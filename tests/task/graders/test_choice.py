from collections.abc import Callable

import pytest

from isoflop.task.graders.choice import Choice

CITIES = Choice(("Paris", "London", "Rome", "a cat"))


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        ("A", "A"),
        ("b", "B"),
        ("B.", "B"),
        (" (C)", "C"),
        ("**B**", "B"),
        ("A) Paris", "A"),
        ("A. Paris", "A"),
        ("C: Rome", "C"),
        ("Option C", "C"),
        ("The answer is (B) London.", "B"),
        ("The answer is B, because it rains.", "B"),
        ("**Answer: C**", "C"),
        ("The correct option is B", "B"),
        ("The best answer is B) London", "B"),
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{B}}", "B"),
        ("Paris", "A"),
        ("The capital is Rome.", "C"),
        ("The answer is the Rome", "C"),
        ("a cat", "D"),
        ("The answer is A cat", "D"),
        ("I am fairly sure it is (B).", "B"),
        ("Let me think.\nA: no\nB: yes\n\nThe answer is B.", "B"),
        ("<think>(A)?</think>(B)", "B"),
        # no answer, or no clear one
        ("A cat sat on the mat", None),
        ("A and B", None),
        ("A, B", None),
        ("(A) is wrong, so (B)", None),
        ("The answer is either A or C", None),
        ("B) Paris", None),
        ("A: no\nB: yes", None),
        ("It is not Paris", None),
        ("The answer is not A.", None),
        ("None of them", None),
        ("E", None),
        ("I", None),
        ("Apples", None),
        ("Absolutely", None),
        ("", None),
        ("<think>A", None),
        (r"\boxed{A", None),
    ],
)
def test_extract(completion: str, letter: str | None) -> None:
    assert CITIES.extract(completion) == letter


def test_the_right_answer_by_letter_or_text(right: Callable[..., bool | None]) -> None:
    options = {"choices": ["Paris", "London"]}
    assert right("London", "B", "choice", options=options) is True
    assert right("B", "London", "choice", options=options) is True
    assert right("A", "London", "choice", options=options) is False
    assert right("Rome", "London", "choice", options=options) is None


def test_letters_without_texts(right: Callable[..., bool | None]) -> None:
    assert right("(d)", "D", "choice") is True
    assert right("A cat", "A", "choice") is None
    assert right("J", "A", "choice") is False


@pytest.mark.parametrize("choices", [("a",), ("x", "X "), tuple("abcdefghijk")])
def test_choices_that_cannot_be_told_apart(choices: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="2 to 10 different texts"):
        Choice(choices)


def test_votes() -> None:
    assert CITIES.groups(["A", "Paris", "B", "(a)", "Rome"]) == [0, 0, 2, 0, 4]
