"""Questions put to a model: the task of the search family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from isoflop.cost import Meter
from isoflop.method.base import Task
from isoflop.method.search.problem import Answer, Problem, problem_seed
from isoflop.model.base import LM, Ask, Message, MeteredLM, Prompt, Sampling
from isoflop.task import GraderError, Question, Questions, Split


@final
class Asked(Task[Problem, Answer]):
    """A set of questions, the model that answers them, and the one that judges.

    Args:
        questions: what is asked and how it is graded.
        lm: the model that answers.
        judge: the model that rates answers, for methods that ask one; the same model unless told otherwise.
        sampling: how to draw samples.
    """

    def __init__(self, questions: Questions, lm: LM, judge: LM | None = None, sampling: Sampling | None = None) -> None:
        self.questions, self.lm, self.judge = questions, lm, judge or lm
        self.sampling = sampling or Sampling()
        self.name, self.digest, self.model = questions.name, questions.digest, lm.name

    def keys(self, split: Split) -> Sequence[str]:
        """The questions of a split."""
        return self.questions.keys(split)

    def open(self, key: str, meter: Meter, ask: Ask, seed: int) -> Problem:
        """The question `key`, answered by the model at the expense of `meter`."""
        question = self.questions[key]
        grader = question.grader

        def groups(answers: Sequence[str]) -> list[int]:
            try:
                return grader.groups(answers)
            except GraderError as error:  # then only the same words mean the same
                problem.faults.append(str(error))
                return [answers.index(answer) for answer in answers]

        def verify(answer: str) -> float:
            try:
                return self.questions.score(key, answer)
            except GraderError as error:  # not known to be right
                problem.faults.append(str(error))
                return 0.0

        problem = Problem(
            key=key,
            prompt=prompt_of(question),
            lm=MeteredLM(self.lm, ask, meter),
            judge=MeteredLM(self.judge, ask, meter, "judge"),
            sampling=self.sampling,
            seed=problem_seed(seed, self.name, key),
            extract=grader.extract,
            groups=groups,
            verify=verify,
        )
        return problem

    def score(self, key: str, answer: Answer) -> float:
        """The grade of an answer; no answer is wrong."""
        return self.questions.score(key, answer.text)

    def describe(self, answer: Answer) -> tuple[str, float]:
        """Its words, and the method's confidence."""
        return answer.text or "", answer.confidence

    def unjudged(self, problem: Problem, answer: Answer) -> str:
        """What the grader said where there is no answer because it could not read some samples."""
        if answer.text is not None or not problem.faults:
            return ""
        return f"it failed {len(problem.faults)} times, last on: {problem.faults[-1]}"

    def faults(self, problem: Problem) -> Sequence[str]:
        """What the grader said each time that it failed."""
        return problem.faults

    def drawn(self, problem: Problem) -> Sequence[Answer]:
        """What was found in each sample of the question."""
        return [Answer(text) for text in problem.answers]


def prompt_of(question: Question) -> Prompt:
    """The question as a model takes it."""
    if isinstance(question.prompt, str):
        return question.prompt
    return tuple(Message(role, content) for role, content in question.prompt)
