"""Pooled searches follow the laws they claim, on pools of known content."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from isoflop.cost import FREE, Meter
from isoflop.law.coverage import majority_confidence
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.problem import SEEDS, Answer, Candidate, Problem, problem_seed
from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.method.search.single import Single
from isoflop.method.search.stop.confident import Confident
from isoflop.method.search.value.judge import Judge
from isoflop.method.search.value.likelihood import Likelihood
from isoflop.method.search.value.oracle import Oracle
from isoflop.method.search.vote import tally
from isoflop.method.search.weighted_vote import WeightedVote
from isoflop.model.base import MeteredLM, Request, Sample, Sampling
from isoflop.model.mock import Mock, Skill


def first_of_each(answers: Sequence[str]) -> list[int]:
    return [answers.index(a) for a in answers]


def problem(texts: Sequence[str | None] = (), right: str = "42", rating: str = "7", logprob: float = -1.0) -> Problem:
    """A problem whose samples are `texts` in this order (None: cut off) and whose judge says `rating`."""
    stream = iter(texts)

    def ask(lm, request: Request, role, meter) -> list[Sample]:
        if role == "judge":
            return [Sample(rating)]
        drawn = [next(stream) for _ in request.seeds]
        return [
            Sample(t or "cut", logprobs=(logprob,) * 2, finish_reason="length" if t is None else "stop") for t in drawn
        ]

    lm = Mock()
    meter = Meter()
    return Problem(
        key="q",
        prompt="q?",
        lm=MeteredLM(lm, ask, meter),
        judge=MeteredLM(lm, ask, meter, "judge"),
        sampling=Sampling(),
        seed=7,
        extract=lambda text: text,
        groups=first_of_each,
        verify=lambda answer: float(answer == right),
    )


def answers(method, p: Problem) -> list[Answer]:
    return list(method.run(p, Meter(), np.random.default_rng(0)))


def simulate(method, p: float, lure: float, problems: int) -> float:
    """Share of problems solved at the end, on a mock that is right with probability p."""
    lm = Mock(Skill(p=p, wrong=3, lure=lure))
    solved = 0.0
    for i in range(problems):
        prompt = f"problem {i}"
        right = lm.right_answer(prompt)

        q = problem()
        q.prompt, q.seed, q.lm = prompt, problem_seed(0, "t", prompt), MeteredLM(lm, ask_mock, Meter())
        q.verify = lambda answer, right=right: float(answer == right)
        solved += q.verify(answers(method, q)[-1].text)
    return solved / problems


def ask_mock(lm: Mock, request: Request, role, meter) -> list[Sample]:
    return lm.sample(request)


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (4, 0.2), (16, 0.05)])
def test_best_of_n_with_an_oracle_is_one_minus_all_wrong(n, p):
    truth = 1 - (1 - p) ** n
    measured = simulate(BestOfN(n=n, batch=n, value=Oracle()), p, 0.0, 300)
    assert abs(measured - truth) < 4 * math.sqrt(truth * (1 - truth) / 300)


def test_single_is_pass_at_one():
    assert abs(simulate(Single(), 0.4, 0.0, 300) - 0.4) < 4 * math.sqrt(0.24 / 300)


@pytest.mark.parametrize("p", [0.4, 0.6])
def test_a_majority_of_two_answers_follows_the_binomial(p):
    """With one tempting wrong answer the vote is a binomial: sure in the limit above 1/2, hopeless below."""
    measured = simulate(SelfConsistency(n=15, batch=15), p, 1.0, 300)
    truth = float(binom.sf(7, 15, p))
    assert abs(measured - truth) < 4 * math.sqrt(truth * (1 - truth) / 300)


def test_yields_are_prefixes_of_one_pool():
    yielded = answers(SelfConsistency(n=5, batch=2), problem(["a", "b", "b", "c", "a"]))
    assert [a.text for a in yielded] == ["a", "b", "a"]  # a tie goes to the answer seen first
    assert yielded[0].confidence == 0.5
    assert yielded[1].confidence == majority_confidence(2, 1)


def test_samples_cut_off_have_no_vote_and_no_answer():
    yielded = answers(SelfConsistency(n=3, batch=1), problem([None, None, "a"]))
    assert [a.text for a in yielded] == [None, None, "a"]
    p = problem([None, "a"])
    assert [c.answer for c in p.draw(2)] == [None, "a"]
    assert p.answers == [None, "a"]
    assert answers(Single(), problem([None]))[0].text is None
    assert answers(BestOfN(n=1), problem([None]))[0].text is None


def test_adaptive_consistency_stops_at_the_published_counts():
    """Four that agree are enough at 0.95 (posterior 0.96875), three are not (0.9375); one dissent needs six more."""
    stop = Confident(0.95)
    unanimous = answers(SelfConsistency(n=40, batch=1, stop=stop), problem(["a"] * 40))
    assert len(unanimous) == 4
    assert unanimous[-1].confidence == pytest.approx(0.96875)
    dissent = answers(SelfConsistency(n=40, batch=1, stop=stop), problem(["b", *["a"] * 39]))
    assert len(dissent) == 7


def test_an_oracle_ends_the_search_at_the_first_success():
    yielded = answers(BestOfN(n=9, batch=1, value=Oracle(), stop=Confident(1.0)), problem(["1", "2", "42", "3"]))
    assert [a.text for a in yielded] == ["1", "1", "42"]
    assert [a.confidence for a in yielded] == [0.0, 0.0, 1.0]


def test_weights_overrule_a_majority():
    p = problem(["a", "a", "b"])
    p.groups = first_of_each
    pool = p.draw(3)
    assert tally(p, pool, [0.2, 0.3, 0.9]) == [("b", 0.9), ("a", 0.5)]
    assert WeightedVote().choose(p, pool, [0.2, 0.3, 0.9]) == Answer("b", 0.9 / 1.4)
    assert BestOfN().choose(p, pool, [0.2, 0.3, 0.1]).text == "a"
    assert math.isnan(WeightedVote().choose(p, pool, [0.0, 0.0, 0.0]).confidence)


def test_answers_that_mean_the_same_share_a_count():
    p = problem(["1/2", "0.5", "3"])
    p.groups = lambda found: [0 if a in ("1/2", "0.5") else 2 for a in found]
    assert tally(p, p.draw(3), [1, 1, 1]) == [("1/2", 2.0), ("3", 1.0)]


def test_likelihood_is_the_geometric_mean_and_zero_where_it_is_not_told():
    candidates = [Candidate(Sample("x", logprobs=(-1.0, -3.0)), "x"), Candidate(Sample("y"), "y")]
    assert Likelihood().of(problem(), candidates) == [pytest.approx(math.exp(-2)), 0.0]


@pytest.mark.parametrize(("rating", "value"), [("7", 0.7), ("I would say 10.", 1.0), ("no idea", 0.5), ("0/10", 0.0)])
def test_a_judge_rates_each_distinct_answer_once(rating, value):
    p = problem(rating=rating)
    asked: list[Request] = []
    ask = p.judge.ask

    def listen(lm, request, role, meter):
        asked.append(request)
        return ask(lm, request, role, meter)

    p.judge = MeteredLM(p.judge.lm, listen, p.judge.meter, "judge")
    candidates = [Candidate(Sample(t), t) for t in ("a", "b", "a")] + [Candidate(Sample(""), None)]
    assert Judge().of(p, candidates) == [value, value, value, 0.0]
    assert len(asked) == 2
    assert all("q?" in r.prompt[0].content for r in asked)


def test_slots_never_share_a_seed_and_do_not_depend_on_the_batch():
    seen: list[int] = []

    def ask(lm, request: Request, role, meter) -> list[Sample]:
        seen.extend(request.seeds)
        return [Sample("a")] * len(request.seeds)

    def seeds(*batches: int) -> list[int]:
        seen.clear()
        p = problem()
        p.lm = MeteredLM(p.lm.lm, ask, Meter())
        for n in batches:
            p.draw(n)
        return list(seen)

    many = seeds(5000)
    assert len(set(many)) == 5000
    assert all(0 <= s < SEEDS for s in many)
    assert seeds(1, 2, 4997) == many
    assert problem_seed(0, "t", "a") != problem_seed(0, "t", "b") != problem_seed(1, "t", "b")


def test_methods_spend_nothing_of_their_own():
    meter = Meter()
    list(SelfConsistency(n=4).run(problem(["a"] * 4), meter, np.random.default_rng(0)))
    assert meter.spent == FREE


@pytest.mark.parametrize("bad", [{"n": 0}, {"batch": 0}])
def test_impossible_parameters_are_refused(bad):
    with pytest.raises(ValueError, match="must be at least 1"):
        SelfConsistency(**bad)
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        Confident(1.5)
