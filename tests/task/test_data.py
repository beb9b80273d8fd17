"""The shipped questions: enough of them, and their graders take right answers in usual forms and no others."""

from __future__ import annotations

import pytest

from isoflop.task import Questions

FORMS = ("{}", "{}.", "The answer is {}.", "**{}**", "Answer: {}", "It is {}.", "{}, of course.", '"{}"')
NOT_ANSWERS = ("", "I do not know.", "The answer is unclear.", "As an AI I cannot say.")


@pytest.fixture(scope="module")
def questions() -> Questions:
    return Questions.load("questions")


def right(question, text: str) -> bool:
    answer = question.grader.extract(text)
    return answer is not None and question.grader.grade(answer, question) == 1


def test_there_are_enough_of_all_levels_in_both_splits(questions):
    assert len(questions.questions) >= 120
    assert len(questions.keys("test")) == 60
    for split in ("dev", "test"):
        levels = {q.level for q in questions.questions if q.split == split}
        assert levels == {1, 2, 3, 4, 5}
    assert len({q.prompt for q in questions.questions}) == len(questions.questions)


@pytest.mark.parametrize("form", FORMS)
def test_right_answers_pass_in_usual_forms(questions, form):
    for q in questions.questions:
        for answer in q.answer.split("|"):
            assert right(q, form.format(answer)), (q.prompt, form.format(answer))


def test_no_answer_is_not_right(questions):
    for q in questions.questions:
        for text in NOT_ANSWERS:
            assert not right(q, text), (q.prompt, text)


def test_the_question_said_again_is_not_right(questions):
    for q in questions.questions:
        assert not right(q, q.prompt), q.prompt


def test_the_answers_of_others_are_not_right(questions):
    """Each question refuses the answers of questions with another answer."""
    for q in questions.questions:
        own = {a.casefold() for a in q.answer.split("|")}
        for other in questions.questions:
            answers = other.answer.split("|")
            if not own & {a.casefold() for a in answers}:
                assert not right(q, answers[0]), (q.prompt, answers[0])
