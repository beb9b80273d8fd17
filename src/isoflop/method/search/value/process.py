"""The value of steps as a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from isoflop.method.search.problem import Candidate, Problem
from isoflop.method.search.value.base import Value
from isoflop.model.base import Sampling

_OF: Mapping[str, Callable[[Sequence[float]], float]] = {"last": lambda v: v[-1], "least": min, "product": math.prod}


@final
@dataclass(frozen=True)
class Process(Value):
    """A process reward: how likely a response ends right, told at the end of each of its steps.

    The judge is a `process:` model, whose call is one forward pass over question and response, charged to the role
    `judge`; responses that are the same are judged once a batch. Lightman et al. 2023 (arXiv 2305.20050) take the
    product over steps, Wang et al. 2024 (arXiv 2312.08935) the least; for a value learned from outcomes, the last
    already says how it will end (Snell et al. 2024, arXiv 2408.03314).

    Args:
        steps: what stands for all steps: `last`, `least` or `product`.
    """

    steps: str = "last"

    def __post_init__(self) -> None:
        if self.steps not in _OF:
            raise ValueError(f"steps={self.steps!r} must be one of {', '.join(_OF)}")

    def of(self, problem: Problem, candidates: Sequence[Candidate]) -> list[float]:
        """The value in [0, 1]; 0 for a candidate without an answer.

        Raises:
            ValueError: the judge does not tell values of steps.
        """
        texts = dict.fromkeys(c.sample.text for c in candidates if c.answer is not None)
        value = {text: self._judged(problem, text) for text in texts}
        return [0.0 if c.answer is None else value[c.sample.text] for c in candidates]

    def _judged(self, problem: Problem, text: str) -> float:
        asked = problem.prompt if isinstance(problem.prompt, str) else "".join(turn.content for turn in problem.prompt)
        told = problem.rate(asked + text, Sampling(temperature=0.0)).text
        try:
            values = [float(word) for word in told.split()]
        except ValueError:
            judge = problem.judge.lm.name
            raise ValueError(
                f"{judge} does not tell values of steps; give a judge such as process:chain-132k"
            ) from None
        return _OF[self.steps](values) if values else 0.0
