"""Repeated sampling: coverage grows by a law, majority vote does not keep up."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from isoflop.claim.base import Claim, CouldNotRunError, Finding, Size, Value
from isoflop.law.coverage import beta_coverage, fit_beta_coverage, fit_power_coverage, pass_at_k
from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.model.base import LM, ModelError, Sampling
from isoflop.model.load import load
from isoflop.model.mock import Mock, Skill
from isoflop.run import Bench, Study
from isoflop.task import Question, Questions
from isoflop.task.graders.exact import Exact

_GOLDEN = (0.441, 0.549)  # Beta fit to the published counts of a 0.5B model on GSM8K
_REAL = "gguf:smollm2-135m"
_REAL_SAMPLES = 32
_FIT_MISS = 0.02  # largest distance of a good fit from the measured curve (fraction of problems)
_FORECAST_MISS = 0.05  # same, four times beyond the samples that were fitted


@final
@dataclass(frozen=True)
class LargeLanguageMonkeys(Claim):
    """Brown et al. 2024: coverage is exp(a k^b) in the number of samples k, while majority vote levels off.

    The paper goes to 10,000 samples of models of 0.07 to 70 B parameters on five sets of problems; here it is 64 to 256
    samples of a mock whose truth is known and, at size `full`, 32 of a 135 M model on short questions. The bounds of
    what counts as holding are ours.
    """

    paper: ClassVar[str] = "Large Language Monkeys: Scaling Inference Compute with Repeated Sampling (arXiv 2407.21787)"
    says: ClassVar[str] = (
        "the share of problems that some sample solves follows an exponentiated power law in the number of samples; "
        "picking by majority levels off while coverage still grows"
    )
    tested_by: ClassVar[str] = (
        f"exp(a k^b) fitted to unbiased pass@k misses it nowhere by more than {_FIT_MISS}; fitted to a quarter of the "
        f"samples it forecasts the rest within {_FORECAST_MISS}; over the last two doublings of k coverage gains at "
        "least twice what majority vote gains. The law comes from problems that are hardly ever solved: the shipped "
        "questions have none (each was chosen to be right 5 to 70 % of the time), and on them it does not hold"
    )

    def findings(self, size: Size) -> list[Finding]:
        """On a mock of known truth and, at size `full`, on SmolLM2-135M."""
        problems, samples = (150, 64) if size == "quick" else (300, 256)
        mock = Mock(Skill(beta=_GOLDEN, wrong=4, lure=0.5))
        asked = Questions("mock", [Question(f"q{i}", f"Problem {i}?", f"answer {i}", Exact()) for i in range(problems)])
        found = _compare("the mock", _sample(asked, mock, samples, Sampling()), samples)
        found.append(_truth(problems * 4, samples // 4))
        if size == "full":
            try:
                real = load(_REAL)
                study = _sample(Questions.load("questions"), real, _REAL_SAMPLES, Sampling(16, temperature=0.8))
            except ModelError as error:
                raise CouldNotRunError(f"{_REAL} is not here: {error}") from error
            found += _compare("SmolLM2-135M", study, _REAL_SAMPLES)
        return found


def _truth(problems: int, n: int) -> Finding:
    """The estimator on difficulties that are known: is its forecast of the tail right?"""
    rng = np.random.default_rng(0)
    law = fit_beta_coverage(np.full(problems, n), rng.binomial(n, rng.beta(*_GOLDEN, size=problems)))
    k = np.array([n, 4 * n, 100 * n], float)
    forecast, truth = law.forecast(k), beta_coverage(k, *_GOLDEN)
    return Finding(
        f"from {n} samples a problem, the Beta law's 90 % interval holds the true coverage up to {100 * n} samples",
        bool(np.all((forecast.low <= truth) & (truth <= forecast.high))),
        {"k": k.tolist(), "forecast": forecast.value.round(4).tolist(), "truth": truth.round(4).tolist()},
    )


def _sample(questions: Questions, lm: LM, samples: int, sampling: Sampling) -> Study:
    method = SelfConsistency(n=samples, batch=max(samples // 32, 1))
    with tempfile.TemporaryDirectory() as folder:
        study = Bench(questions, [lm], [method], sampling=sampling, splits=["test"]).run(Path(folder) / "store.db")
    if study.info.status != "done":
        raise CouldNotRunError(f"its run was {study.info.status}")
    return study


def _compare(what: str, study: Study, samples: int) -> list[Finding]:
    n, c = np.array([g.n for g in study.graded], float), np.array([g.c for g in study.graded], float)
    k = np.unique(np.geomspace(1, samples, 40).round())
    coverage = pass_at_k(n[:, None], c[:, None], k).mean(axis=0)
    whole = fit_power_coverage(k, coverage)
    miss = float(np.abs(whole(k) - coverage).max())
    early = k <= samples / 4
    forecast = fit_power_coverage(k[early], coverage[early])
    beyond = float(np.abs(forecast(k) - coverage)[~early].max())
    fitted: dict[str, Value] = {"a": round(whole.a, 4), "b": round(whole.b, 4), "largest_miss": round(miss, 4)}
    problems = f"{what}, {len(n)} problems, {samples} samples each"
    return [
        Finding(f"{problems}: coverage is exp(a k^b)", miss <= _FIT_MISS, fitted),
        Finding(
            f"{problems}: fitted to k <= {samples // 4} it forecasts the rest",
            beyond <= _FORECAST_MISS,
            {"at": float(samples), "measured": round(float(coverage[-1]), 4), "largest_miss": round(beyond, 4)},
        ),
        _plateau(problems, study, float(coverage[-1]), float(pass_at_k(n, c, samples // 4).mean())),
    ]


def _plateau(problems: str, study: Study, coverage: float, coverage_before: float) -> Finding:
    """What the last two doublings of the samples bring to coverage and to the vote."""
    steps = sorted({r.step for r in study.records})
    vote = [float(np.mean([r.quality for r in study.records if r.step == s and r.status == "ok"])) for s in steps]
    gained, voted = coverage - coverage_before, vote[-1] - vote[len(vote) // 4 - 1]
    return Finding(
        f"{problems}: coverage goes on growing where the majority levels off",
        gained >= 2 * voted,
        {
            "coverage_gain": round(gained, 4),
            "majority_gain": round(voted, 4),
            "coverage": round(coverage, 4),
            "majority": round(vote[-1], 4),
        },
    )
