import itertools
import threading
from collections.abc import Callable

import pytest

from isoflop.task import GraderError, Question, TaskError
from isoflop.task.graders import math as math_grader
from isoflop.task.graders.math import Math
from isoflop.task.worker import OverLimit


@pytest.mark.parametrize(
    ("answer", "completion", "right_"),
    [
        # numbers and fractions
        (r"\frac{1}{2}", r"The answer is $0.5$.", True),
        ("1/2", r"so \boxed{\frac12}", True),
        ("1/3", r"\boxed{0.333}", False),
        ("12", r"\boxed{120}", False),
        ("1,000", r"\boxed{1000}", True),
        ("2/4", "The answer is 1/2, since both are halves.", True),
        (r"2\pi", r"\boxed{6.28}", False),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", True),
        (r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt 2}}", True),
        # expressions
        ("(x+1)^2", "We get $x^2+2x+1$, so done.", True),
        ("(x+1)^2", "We get $x^2+2x-1$, so done.", False),
        ("xy", r"\boxed{yx}", True),
        # equations
        ("x=5", "The answer is 5.", True),
        ("5", r"\boxed{x=5}", True),
        ("2x+3y=6", r"Hence $y = 2 - \frac{2x}{3}$", True),
        ("2x+3y=6", r"Hence $y = 2 + \frac{2x}{3}$", False),
        # sets, intervals, tuples
        (r"\{1,2\}", r"\boxed{\{2,1\}}", True),
        (r"\{1,2\}", r"\boxed{\{1,3\}}", False),
        (r"\{1,2\}", r"\boxed{(1,2)}", False),
        ("(1,2)", r"\boxed{[1,2]}", False),
        ("3,4", "So $x=3$ or $x=4$.", True),
        ("1<x<2", r"\boxed{(1,2)}", True),
        (r"[0,\infty)", r"\boxed{x \ge 0}", True),
        (r"[0,\infty)", r"\boxed{x > 0}", False),
        # matrices
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\boxed{\begin{pmatrix}1&2\\3&4\end{pmatrix}}", True),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\boxed{\begin{pmatrix}1&2\\3&5\end{pmatrix}}", False),
        # units
        ("5 cm", r"\boxed{5\text{ m}}", False),
        ("5 cm", r"\boxed{5\text{ cm}}", True),
        ("5 cm", "The answer is 0.05 meters.", True),
        ("5 cm", r"\boxed{5}", True),
        ("5", r"\boxed{5\text{ cm}}", True),
        (r"50\%", r"\boxed{50}", True),
        ("5m", r"\boxed{5}", False),  # a variable
        # words
        (r"\text{Paris}", r"\boxed{\text{paris}}", True),
        (r"\text{Paris}", r"\boxed{\text{pairs}}", False),  # no product of letters
        ("yes", r"\boxed{\text{no}}", False),
        # nothing to grade
        ("3", "I don't know", None),
        ("3", r"\boxed{3", None),
    ],
)
def test_grade(right: Callable[..., bool | None], answer: str, completion: str, right_: bool | None) -> None:
    assert right(completion, answer, "math") is right_


FORMS = [
    "1/2",
    "0.5",
    r"\frac{2}{4}",
    "x^2",
    r"x\cdot x",
    r"\sqrt{4}",
    "2",
    r"\{1,2\}",
    "1,2",
    "(1,2)",
    "x=2",
    "yes",
    "",
    "}{",
]


def test_same_is_reflexive_symmetric_and_implied_by_canonical() -> None:
    grader = Math()
    for a, b in itertools.combinations_with_replacement(FORMS, 2):
        assert grader.same(a, b) == grader.same(b, a)
        assert grader.canonical(a) != grader.canonical(b) or grader.same(a, b)
    assert all(grader.same(a, a) for a in FORMS)


def test_votes() -> None:
    assert Math().groups(["1/2", "0.5", r"\frac{2}{4}", "x^2", "x*x", "x^2+1", "1+x^2", "sqrt(4)", "2"]) == [
        0,
        0,
        0,
        3,
        3,
        5,
        5,
        7,
        7,
    ]


@pytest.mark.parametrize(
    "hostile", ["10^{10^{10}}", "(x+1)^{99999999}", "(" * 400 + "3" + ")" * 400, "x+" * 3000 + "x"]
)
def test_an_answer_made_to_take_for_ever_is_wrong(hostile: str) -> None:
    grader = Math(cpu_s=0.5)
    assert grader.grade(hostile, Question("k", "?", r"\sqrt{3}", grader)) == 0.0
    assert grader.grade(r"\sqrt{3}", Question("k", "?", r"\sqrt{3}", grader)) == 1.0


def test_a_comparison_that_takes_for_ever_is_the_graders_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def call(self, function: str, *args: str, cpu_s: float) -> str:
            if function == "same":
                raise OverLimit("same took more than 3 s of CPU time")
            return args[0]

    monkeypatch.setattr(math_grader, "worker", lambda name: Slow())
    with pytest.raises(GraderError, match="cannot be compared"):
        Math().grade("y^2", Question("k", "?", "y^3", Math()))
    assert not Math().same("y^2", "y^3")  # votes apart


def test_off_the_main_thread() -> None:
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(Math().same(r"\sqrt{12}", r"2\sqrt{3}")))
    thread.start()
    thread.join()
    assert got == [True]


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_grader, "find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"pip install 'isoflop\[math\]'"):
        Math()
