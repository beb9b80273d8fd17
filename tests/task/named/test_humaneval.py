import ast

import pytest

from isoflop.task import Questions
from isoflop.task.graders.code import Code


@pytest.fixture(scope="module")
def humaneval() -> Questions:
    return Questions.load("humaneval")


def test_all_164_are_there(humaneval: Questions) -> None:
    assert len(humaneval) == 164 == len(humaneval.keys("test"))
    assert humaneval.keys("test")[0] == "HumanEval/0"
    for question in humaneval:
        assert isinstance(question.grader, Code)
        assert isinstance(question.prompt, str)
        assert ast.parse(question.prompt)


def test_every_canonical_solution_passes_and_an_empty_one_does_not(humaneval: Questions) -> None:
    assert [q.key for q in humaneval if humaneval.score(q.key, q.answer) != 1.0] == []
    assert [q.key for q in humaneval if humaneval.score(q.key, "    return None\n") != 0.0] == []


def test_as_a_chat_model_writes_it(humaneval: Questions) -> None:
    for key in humaneval.keys("test")[30:40]:  # 32 and 38 have functions before the one asked for
        q = humaneval[key]
        said = f"Sure!\n```python\n{q.prompt}{q.answer}```\nTry it:\n```python\nprint(1)\n```\n"
        assert humaneval.score(key, q.grader.extract(said)) == 1.0
        alone = (q.prompt + q.answer)[(q.prompt + q.answer).index(f"def {q.grader.entry_point}") :]  # pyright: ignore
        assert humaneval.score(key, q.grader.extract(f"```python\n{alone}```")) == 1.0
