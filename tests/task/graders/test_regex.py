from collections.abc import Callable

import pytest

from isoflop.task import GraderError, Question
from isoflop.task.graders.regex import Regex


def test_the_whole_answer_must_match(right: Callable[..., bool | None]) -> None:
    assert right(" Paris\n", "par.s", "regex") is True
    assert right("Paris!", "par.s", "regex") is False
    assert right("It is Paris, in\nFrance", ".*paris.*", "regex") is True
    assert right("", "par.s", "regex") is None
    assert right("Paris", "PARIS", "regex", options={"case": True}) is False


def test_capture_finds_the_answer(right: Callable[..., bool | None]) -> None:
    options = {"capture": r"capital is (\w+)"}
    assert right("The capital is Rome? No, the capital is Paris.", "paris|lutetia", "regex", options=options) is True
    assert right("The capital is Parisian", "paris|lutetia", "regex", options=options) is False
    assert right("Paris", "paris|lutetia", "regex", options=options) is None
    assert Regex(capture=r"\d+").extract("1 and 22") == "22"


def test_votes_count_what_was_captured() -> None:
    assert Regex().groups(["Paris", "paris ", "Rome"]) == [0, 0, 2]
    assert Regex(case=True).groups(["Paris", "paris"]) == [0, 1]


def test_a_pattern_that_does_not_end_is_the_graders_fault() -> None:
    grader = Regex(cpu_s=0.2)
    with pytest.raises(GraderError, match=r"\(a\+\)\+.*more than 0.2 s of CPU time"):
        grader.grade("a" * 60 + "!", Question("k", "?", "(a+)+", grader))
    with pytest.raises(GraderError, match="more than 0.2 s"):
        Regex(capture="(a+)+$", cpu_s=0.2).extract("a" * 60 + "!")


def test_patterns_that_are_none() -> None:
    assert "no regular expression" in str(Regex().rejects(Question("k", "?", "(", Regex())))
    assert "no regular expression" in str(Regex().rejects(Question("k", "?", "a", Regex(), aliases=("*",))))
    with pytest.raises(ValueError, match="capture"):
        Regex(capture="(")
