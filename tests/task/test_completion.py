from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.task.completion import boxed, first_line, first_sentence, last_line, places, response, stated, undecorated


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\fbox{3}", "3"),
        (r"\boxed {4}", "4"),
        (r"\boxed{12", None),  # cut off
        (r"\boxed{1} but \boxed{2", None),
        (r"\boxed{ }", None),
        ("no box", None),
    ],
)
def test_boxed(text: str, found: str | None) -> None:
    assert boxed(text) == found


@given(
    st.recursive(
        st.text("ab12+", max_size=3), lambda t: st.tuples(t, t).map(lambda p: f"{p[0]}{{{p[1]}}}"), max_leaves=8
    )
)
def test_a_box_keeps_balanced_braces(inside: str) -> None:
    assert boxed(rf"x \boxed{{{inside}}} y}}") == (inside.strip() or None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 12.", "12"),
        ("the answer is: 12", "12"),
        ("The final answer is **Paris**. It lies on the Seine.", "Paris"),
        ("**Answer:** 42", "42"),
        ("**Final Answer**: 42", "42"),
        ("Answer: St. Petersburg. Founded in 1703.", "St. Petersburg"),
        ("Answer: J. K. Rowling", "J. K. Rowling"),
        ("Answer:\n42\n", "42"),
        ("She has 18 left.\n#### 18", "18"),
        ("The answer to the question is 7", "7"),
        ("The answer is 3. No wait, the answer is 4.", "4"),
        ("The correct option is (B).", "(B)"),
        ("The answer is 3.14", "3.14"),
        ("The answer is not 3", None),
        ("I do not know the answer", None),
        ("This answers nothing", None),
        ("## Solution", None),
    ],
)
def test_stated(text: str, found: str | None) -> None:
    assert stated(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>Rome? London?</think>\nParis", "Paris"),
        ("<think>still thinking", ""),
        ("Rome</think> Paris", " Paris"),
        ("Paris\n\nQuestion: Capital of Spain?\nAnswer: Madrid", "Paris"),
        ("Paris\nQ: Capital of Spain?", "Paris"),
        ("\n    return x\n", "    return x"),
        ("Question: what?\nAnswer: 5", "Question: what?\nAnswer: 5"),
    ],
)
def test_response(text: str, said: str) -> None:
    assert response(text) == said


def test_lines() -> None:
    assert first_line("\n\n one \ntwo\n\n") == "one"
    assert last_line("\n\n one \ntwo\n\n") == "two"
    assert first_line(" \n") is last_line("") is first_sentence("\n") is None


@pytest.mark.parametrize(
    "text", ["Paris", " Paris. ", "**Paris**.", "`Paris`", "_Paris!_", r"\text{Paris}", r"\mathrm{ Paris }."]
)
def test_undecorated(text: str) -> None:
    assert undecorated(text) == "Paris"


def test_an_open_box_is_the_only_place_to_look() -> None:
    assert list(places(r"The answer is 1, so \boxed{1", "auto", "whole")) == []
    assert list(places(r"The answer is 1, so \boxed{2}", "auto", "whole")) == [("boxed", "2")]


def test_the_order_of_looking() -> None:
    text = "One.\nThe answer is 2."
    assert [place for place, _ in places(text, "auto", "first_line", "whole")] == ["stated", "first_line", "whole"]
    assert list(places(text, "last_line")) == [("last_line", "The answer is 2.")]
    assert list(places("no statement", "stated")) == []


LONG = 100_000


@pytest.mark.parametrize(
    "text", ["no" + "\n" * LONG + "x", "\t" * LONG + "x", r"\boxed{" * LONG, "the answer is " * (LONG // 10)]
)
@pytest.mark.parametrize("grader", ["choice", "code", "exact", "numeric"])
def test_no_long_completion_takes_for_ever(right: Callable[..., bool | None], text: str, grader: str) -> None:
    """Patterns that go back from every line or word would take hours here; the suite's own time limit would say so."""
    fields = {"tests": ["pass"]} if grader == "code" else {}
    answer = {"code": "pass", "choice": "A"}.get(grader, "7")
    assert right(text, answer, grader, **fields) is not True


@pytest.mark.parametrize("text", [r"\(" * LONG, r"\, " * LONG + "x", "$a" * (LONG // 4)])
def test_no_long_formula_takes_for_ever(right: Callable[..., bool | None], text: str) -> None:
    assert right(text, "7", "math") is not True
