"""The commands about sets of questions: `tasks`, `check`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from isoflop.cli.screen import out, put_json
from isoflop.cli.show import JsonOption
from isoflop.task import Questions, TaskError
from isoflop.task.questions import shipped


def tasks(json: JsonOption = False) -> None:
    """List the tasks that come with isoflop."""
    if json:
        found = {name: _loaded(name) for name in shipped()}
        put_json({name: _counts(q) if isinstance(q, Questions) else {"missing": q} for name, q in found.items()})
        return
    for name in shipped():
        questions = _loaded(name)
        out.print(f"{name}: {_summary(questions)}" if isinstance(questions, Questions) else questions, soft_wrap=True)


def check(file: Annotated[str, typer.Argument(help="A .jsonl file of questions, or a task's name.")]) -> None:
    """Check every row of a file of questions."""
    out.print(f"{file}: {_summary(Questions.load(file))}; every row can be used", soft_wrap=True)


def _loaded(name: str) -> Questions | str:
    """A set of questions, or why it cannot be had here."""
    try:
        return Questions.load(name)
    except TaskError as error:
        return str(error)


def _counts(questions: Questions) -> dict[str, Counter[str]]:
    return {
        "splits": Counter(q.split for q in questions),
        "graders": Counter(q.grader.name() for q in questions),
    }


def _summary(questions: Questions) -> str:
    splits, graders = (", ".join(f"{n} {what}" for what, n in c.items()) for c in _counts(questions).values())
    return f"{len(questions)} questions ({splits}), graded by {graders}"
