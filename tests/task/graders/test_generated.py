import pytest

from isoflop.task import Questions
from isoflop.task.generate import generator


@pytest.mark.parametrize("name", ["chain", "countdown", "automata", "connectivity", "life", "program"])
def test_generated_questions_are_graded_by_their_generator(name):
    questions, task = Questions.load(name), generator(name)
    dev, test = questions.keys("dev"), questions.keys("test")
    assert {questions[key].level for key in dev} == {questions[key].level for key in test} == set(task.trained)
    assert 0.7 * 20 * len(task.trained) < len(dev) <= 20 * len(task.trained)  # small spaces have fewer
    assert 0.7 * 40 * len(task.trained) < len(test) <= 40 * len(task.trained)
    for key in (*dev[::25], *test[::50]):
        question = questions[key]
        assert question.grader.rejects(question) is None
        assert questions.score(key, question.grader.extract(question.answer)) == 1
        wrong = next(q for q in questions if q.answer != question.answer)
        assert questions.score(key, wrong.answer) == 0


def test_any_solution_is_right():
    questions = Questions.load("countdown")
    key, question = next((q.key, q) for q in questions if q.level == 2 and "+" in q.answer)
    a, b = question.answer[:2], question.answer[3:5]
    other = f"{b}+{a}={question.answer[6:]}"
    assert questions.score(key, question.grader.extract(other + "\n")) == 1
