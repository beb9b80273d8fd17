"""Generated problems as a set of questions that a run can ask."""

from __future__ import annotations

from isoflop.task.base import Question, Split
from isoflop.task.generate.base import generator
from isoflop.task.graders.generated import Generated

_EACH: dict[Split, int] = {"dev": 20, "test": 40}


def asked(task: str) -> list[Question]:
    """Problems of a generator from its splits dev and test, 20 and 40 of each trained difficulty, none twice."""
    source, found = generator(task), dict[str, Question]()
    for split, each in _EACH.items():
        for difficulty in source.trained:
            index, wanted = 0, len(found) + each
            while len(found) < wanted and index < 50 * each:  # small spaces repeat themselves
                e = source.problem(split, index, difficulty)
                question = Question(e.key, e.prompt, e.answer, Generated(task), split=split, level=difficulty)
                found.setdefault(e.key, question)
                index += 1
    return list(found.values())
