"""The command that checks a file of questions: `check`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from isoflop.cli.screen import out
from isoflop.task import Questions


def check(file: Annotated[str, typer.Argument(help="A .jsonl file of questions.")]) -> None:
    """Check a file of questions; every row that cannot be used is reported with its line."""
    questions = Questions.load(file)
    splits = Counter(q.split for q in questions)
    graders = Counter(q.grader.name() for q in questions)
    counts = (", ".join(f"{n} {what}" for what, n in counted.items()) for counted in (splits, graders))
    out.print(f"{file}: {len(questions)} questions, all usable; {'; graded by '.join(counts)}", soft_wrap=True)
