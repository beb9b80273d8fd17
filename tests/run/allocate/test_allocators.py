"""What adaptive allocation is worth, against the golden distribution of difficulty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from isoflop.law.coverage import beta_coverage
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.value.oracle import Oracle
from isoflop.model.mock import Mock, Skill
from isoflop.run import Bench, Study, read_allocator
from isoflop.run.allocate.base import Progress, Seen
from isoflop.run.allocate.expected_gain import ExpectedGain
from isoflop.run.allocate.first_success import FirstSuccess
from isoflop.run.allocate.uniform import Uniform
from isoflop.task import Grader, Question, Questions


@dataclass(frozen=True)
class Whole(Grader):
    def extract(self, text: str) -> str | None:
        return text.strip() or None

    def canonical(self, answer: str) -> str:
        return answer


def questions(n: int) -> Questions:
    return Questions("sums", [Question(f"q{i}", f"What is {i}+1?", str(i + 1), Whole()) for i in range(n)])


def solved(study: Study) -> int:
    return len({(r.model, r.key) for r in study.records if r.quality == 1})


def samples(study: Study) -> int:
    return sum(row.samples for row in study.ledger)


@pytest.mark.parametrize(("k", "share"), [(8, 0.44), (16, 0.33), (32, 0.24), (64, 0.18), (128, 0.13)])
def test_the_golden_shares_follow_from_the_beta_law(k, share):
    """Stopping at the first success draws sample j+1 only where j failed: the mean over j < k of 1 - coverage(j)."""
    unsolved = 1 - np.concatenate([[0.0], beta_coverage(np.arange(1, k), 0.441, 0.549)])
    assert unsolved.mean() == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(("k", "share"), [(8, 0.44), (32, 0.24)])
def test_first_success_reaches_the_same_coverage_for_the_golden_share_of_samples(tmp_path, k, share):
    problems = 150
    bench = Bench(questions(problems), ["mock:beta=0.441:0.549"], [BestOfN(n=k, batch=1, value=Oracle())])
    uniform = bench.run(tmp_path / "s")
    stopping = Bench(bench.task, bench.models, bench.methods, allocate="first_success").run(tmp_path / "s")
    assert solved(stopping) == solved(uniform)
    assert samples(uniform) == problems * k
    assert samples(stopping) / samples(uniform) == pytest.approx(share, abs=4 * 0.5 / math.sqrt(problems))
    assert stopping.info.outcome["replayed"] == samples(stopping)  # all of them had been paid for by the first run


def test_uniform_spends_the_same_on_every_problem(tmp_path):
    bench = Bench(questions(40), ["mock:p=0.2"], [BestOfN(n=64, batch=1)], budgets=["tokens_in=800"], lookahead=1)
    study = bench.run(tmp_path / "s")
    spent = {
        key: max(r.per_use.tokens_in for r in study.records if r.key == key) for key in {r.key for r in study.records}
    }
    assert len(spent) == 40
    assert max(spent.values()) - min(spent.values()) <= 2 * 4  # at most two samples of four tokens apart


def test_expected_gain_leaves_the_hopeless_alone(tmp_path):
    """One model that hardly ever succeeds beside one that does: even spending wastes half, greedy does not."""
    models = [Mock(Skill(p=p)) for p in (0.002, 0.15)]
    found: dict[str, int] = {}
    for allocate in ("uniform", "first_success", "expected_gain"):
        methods = [BestOfN(n=64, batch=1, value=Oracle())]
        bench = Bench(questions(100), models, methods, ["tokens_in=3200"], allocate, lookahead=1)
        found[allocate] = solved(bench.run(tmp_path / allocate))
    assert found["first_success"] > found["uniform"]
    assert found["expected_gain"] > 1.1 * found["first_success"]


def test_ranks():
    unsure, sure = Progress(3, 30.0, 0.2, Seen()), Progress(3, 30.0, 0.96, Seen())
    assert Uniform().rank(sure) == 30
    assert FirstSuccess().rank(unsure) == 30
    assert FirstSuccess().rank(sure) is None
    assert FirstSuccess(at_least=0.99).rank(sure) == 30
    assert FirstSuccess().rank(Progress(1, 1.0, math.nan, Seen())) == 1  # no belief is no success
    assert ExpectedGain().rank(sure) is None
    assert ExpectedGain().rank(Progress(0, 0.0, math.nan, Seen())) == -math.inf


def test_expected_gain_learns_how_hard_the_rest_is():
    """After 200 problems of Beta difficulty, the chance of the next step is that of the law."""
    rng, seen, gain = np.random.default_rng(0), Seen(), ExpectedGain()
    for p in rng.beta(0.441, 0.549, 400):
        for step in range(1, 17):
            hit = rng.random() < p
            gain.rank(Progress(step, float(step), float(hit), seen))
            if hit:
                break
    for k in (1, 4, 16):
        rank = gain.rank(Progress(k, float(k), 0.0, seen))
        assert -rank == pytest.approx(0.441 / (0.99 + k), rel=0.35)
        seen.tried[k - 1] -= 1  # take the probe back


def test_allocators_are_read_from_words():
    assert read_allocator("first_success:at_least=0.9") == FirstSuccess(0.9)
    assert read_allocator(ExpectedGain(0.8).to_json()) == ExpectedGain(0.8)
