"""What the value of steps makes of what a judge tells."""

from __future__ import annotations

import pytest

from isoflop.cost import Meter
from isoflop.method.search.problem import Candidate, Problem
from isoflop.method.search.value.process import Process
from isoflop.model.base import MeteredLM, Sample, Sampling
from isoflop.model.mock import Mock


def problem(told: dict[str, str], asked: list[str]) -> Problem:
    def ask(lm, request, role, meter):
        assert role == "judge"
        asked.append(request.prompt)
        return [Sample(told[request.prompt])]

    lm, meter = Mock(), Meter()
    return Problem(
        key="q",
        prompt="q:",
        lm=MeteredLM(lm, ask, meter),
        judge=MeteredLM(lm, ask, meter, "judge"),
        sampling=Sampling(),
        seed=7,
        extract=lambda text: text,
        groups=lambda answers: [0 for _ in answers],
        verify=lambda answer: 0.0,
    )


POOL = [Candidate(Sample(text), answer) for text, answer in (("a b", "b"), ("c", None), ("d b", "b"), ("a b", "b"))]


@pytest.mark.parametrize(
    ("steps", "first", "second"), [("last", 0.5, 0.75), ("least", 0.5, 0.25), ("product", 0.4, 0.1875)]
)
def test_one_value_stands_for_all_steps(steps, first, second):
    asked = list[str]()
    told = {"q:a b": "0.8 0.5", "q:d b": "0.25 0.75"}
    assert Process(steps).of(problem(told, asked), POOL) == pytest.approx([first, 0, second, first])
    assert asked == ["q:a b", "q:d b"]  # once for each text, never for one without an answer


def test_a_judge_of_another_kind_is_refused():
    with pytest.raises(
        ValueError, match="mock.* does not tell values of steps; give a judge such as process:chain-132k"
    ):
        Process().of(problem({"q:a b": "7 out of 10"}, []), POOL[:1])
    assert Process().of(problem({"q:a b": ""}, []), POOL[:1]) == [0.0]


def test_an_unknown_choice_lists_those_that_exist():
    with pytest.raises(ValueError, match="'worst' must be one of last, least, product"):
        Process("worst")
