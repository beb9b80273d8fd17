"""How often SmolLM2-135M is right on each shipped question, and how fast 120 questions x 32 samples are.

    python -m benchmarks.questions [samples [file.jsonl]]

Writes docs/questions.md from the shipped file (a file named on the command line is only printed: for choosing new
questions). Questions belong in the set if the rate lies between 5 % and 70 %: easier ones tell methods apart no
better, harder ones cost samples that nobody gets right.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isoflop.model.base import Request, Sampling
from isoflop.model.gguf import Gguf
from isoflop.task import Question, Questions

SAMPLING = Sampling(max_tokens=16, temperature=0.8)
LOW, HIGH = 0.05, 0.70
PAGE = Path(__file__).parents[1] / "docs" / "questions.md"


@dataclass(frozen=True)
class Measured:
    question: Question
    answers: Sequence[str | None]
    scores: Sequence[float]

    @property
    def rate(self) -> float:
        return sum(self.scores) / len(self.scores)

    @property
    def commonest(self) -> str:
        """The three commonest answers."""
        return ", ".join(f"{a or '(none)'} {n}" for a, n in Counter(self.answers).most_common(3))


async def measure(model: Gguf, questions: Questions, samples: int) -> list[Measured]:
    async def one(question: Question) -> Measured:
        assert isinstance(question.prompt, str)
        texts: list[str] = []
        request = Request(question.prompt, tuple(range(samples)), SAMPLING)
        await model.generate(request, lambda _, sample: texts.append(sample.text))
        answers = [question.grader.extract(text) for text in texts]
        scores = [0.0 if a is None else question.grader.grade(a, question) for a in answers]
        return Measured(question, [None if a is None else question.grader.canonical(a) for a in answers], scores)

    try:
        return await asyncio.gather(*(one(q) for q in questions.questions))
    finally:
        await model.close()


def page(measured: Sequence[Measured], samples: int) -> str:
    rates = sorted(m.rate for m in measured)
    rows = [f"| {m.question.key} | {m.question.prompt} | {m.rate:.0%} | {m.question.split} |" for m in measured]
    return "\n".join(
        [
            "# The shipped questions",
            "",
            f"{len(measured)} questions; share of {samples} samples that are right, SmolLM2-135M-Instruct (Q4_1), "
            f"temperature {SAMPLING.temperature:g}, at most {SAMPLING.max_tokens} tokens, seeds 0 to {samples - 1}. "
            f"Mean {sum(rates) / len(rates):.0%}, median {rates[len(rates) // 2]:.0%}, "
            f"from {rates[0]:.0%} to {rates[-1]:.0%}. Made by `python -m benchmarks.questions`.",
            "",
            "| id | question | right | split |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    own = sys.argv[2] if len(sys.argv) > 2 else None
    questions = Questions.load(own or "questions")
    model = Gguf.open("smollm2-135m")
    start = time.perf_counter()
    measured = asyncio.run(measure(model, questions, samples))
    seconds = time.perf_counter() - start
    for m in measured:
        outside = "" if LOW <= m.rate <= HIGH else "  <- out of band"
        print(f"{m.question.key} {m.rate:5.0%}  {m.question.prompt}  [{m.question.answer}]: {m.commonest}{outside}")
    n = samples * len(measured)
    print(f"{n} samples of {len(measured)} questions in {seconds:.0f} s: {n / seconds:.0f} samples/s")
    if own is None:
        PAGE.write_text(page(measured, samples), encoding="utf-8")


if __name__ == "__main__":
    main()
