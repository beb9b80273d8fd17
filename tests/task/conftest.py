"""Rows graded as a user would have them: read from JSON, then completion by completion."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from isoflop.task import Question
from isoflop.task.rows import read_rows

Ask = Callable[..., Question]


@pytest.fixture
def ask() -> Ask:
    """Makes a question from the fields of a row."""

    def read(answer: str, grader: str, **fields: object) -> Question:
        row = {"prompt": "?", "answer": answer, "grader": grader, **fields}
        (question,) = read_rows(json.dumps(row).encode(), "rows")
        return question

    return read


@pytest.fixture
def right(ask: Ask) -> Callable[..., bool | None]:
    """Whether a completion is right; None where there is no answer in it."""

    def graded(completion: str, answer: str, grader: str, **fields: object) -> bool | None:
        question = ask(answer, grader, **fields)
        found = question.grader.extract(completion)
        return None if found is None else question.grader.grade(found, question) == 1.0

    return graded
