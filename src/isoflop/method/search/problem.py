"""What search methods get: a question, and metered models to answer it with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isoflop.method.base import Method
from isoflop.model.base import MeteredLM, Prompt, Request, Sample, Sampling
from isoflop.task import GraderError

SEEDS = 2**31  # llama.cpp and OpenVINO take 32 bits; a step coprime to it visits every seed once
_SEED_STEP = 0x9E3779B1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample and the answer in it.

    Args:
        sample: what the model wrote, with its log-probabilities and cost.
        answer: the answer found in it; None where there is none, as in a sample cut off.
        fault: why the grader could not look for one; empty if it could.
    """

    sample: Sample
    answer: str | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search method yields: its answer so far.

    Args:
        text: the answer, or None while there is none.
        confidence: the method's own belief (0 to 1) that more compute would not change it for the better; NaN where
            it has none. Allocators see this and never the score.
    """

    text: str | None
    confidence: float = float("nan")


@dataclass(slots=True, eq=False)
class Problem:
    """A question behind a metered model.

    Args:
        key: which problem it is.
        prompt: the question as the model gets it.
        lm: the model that answers, metered.
        judge: the model that rates answers, metered under its own role.
        sampling: how to draw samples.
        seed: where this problem's seeds start; slot i of a prompt has the same seed whatever the method.
        extract: the answer in a completion, or None.
        groups: for each answer the place of the first one that means the same.
        verify: scores an answer as the task's own grader does (1 is right): known at the time of use where the task
            can be checked (unit tests, a proof), an oracle elsewhere.
        answers: what was found in each sample of `prompt` so far, in order, those left out that the grader failed on.
        faults: what the grader said each time that it failed.
    """

    key: str
    prompt: Prompt
    lm: MeteredLM
    judge: MeteredLM
    sampling: Sampling
    seed: int
    extract: Callable[[str], str | None]
    groups: Callable[[Sequence[str]], list[int]]
    verify: Callable[[str], float]
    answers: list[str | None] = field(default_factory=list[str | None])
    faults: list[str] = field(default_factory=list[str])
    _slots: dict[Prompt, int] = field(default_factory=dict[Prompt, int])

    def draw(self, n: int, prompt: Prompt | None = None) -> list[Candidate]:
        """`n` new samples of the question, or of another `prompt`, one batch.

        Raises:
            BudgetExhausted: they would not fit; nothing was spent.
        """
        asked = self.prompt if prompt is None else prompt
        request = Request(asked, self._seeds(asked, n), self.sampling)
        drawn = [self._read(sample) for sample in self.lm.sample(request)]
        if prompt is None:
            self.answers += (c.answer for c in drawn if not c.fault)
        return drawn

    def rate(self, prompt: Prompt, sampling: Sampling) -> Sample:
        """One sample of the judge.

        Raises:
            BudgetExhausted: it would not fit; nothing was spent.
        """
        (sample,) = self.judge.sample(Request(prompt, self._seeds(prompt, 1), sampling))
        return sample

    def _read(self, sample: Sample) -> Candidate:
        """A sample with its answer; a grader that fails on one must not cost the problem the others."""
        if sample.finish_reason != "stop":
            return Candidate(sample, None)
        try:
            return Candidate(sample, self.extract(sample.text))
        except GraderError as error:
            self.faults.append(str(error))
            return Candidate(sample, None, str(error))

    def _seeds(self, prompt: Prompt, n: int) -> tuple[int, ...]:
        first = self._slots.get(prompt, 0)
        self._slots[prompt] = first + n
        return tuple((self.seed + slot * _SEED_STEP) % SEEDS for slot in range(first, first + n))


def problem_seed(run_seed: int, task: str, key: str) -> int:
    """Where a problem's seeds start: a digest of run, task and key, so that runs of different methods are paired."""
    digest = hashlib.blake2b(f"{run_seed}/{task}/{key}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % SEEDS


SearchMethod = Method[Problem, Answer]


def is_right(score: float) -> bool:
    """Whether a score counts as solved."""
    return score >= 1.0
