"""The bench on the mock, whose truth is known."""

from __future__ import annotations

import asyncio
import json
import math

import numpy as np
import pytest

from isoflop.frontier import Frontier
from isoflop.law.coverage import pass_at_k
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.method.search.single import Single
from isoflop.method.search.value.oracle import Oracle
from isoflop.model.base import ModelError, Sampling
from isoflop.model.mock import Mock, Skill
from isoflop.record import Store
from isoflop.run.bench import Bench, resume
from isoflop.run.study import Study
from isoflop.task import SPLITS, Grader, GraderError, Question, Questions


class LastWord(Grader):
    def extract(self, text: str) -> str | None:
        return text.split()[-1] if text.split() else None

    def canonical(self, answer: str) -> str:
        return answer.strip(".")


def questions(n: int = 20) -> Questions:
    asked = [Question(f"q{i}", f"{i}+1?", str(i + 1), LastWord(), SPLITS[i % 2], i % 3) for i in range(n)]
    return Questions("sums", asked)


def curve(study: Study, method: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for r in study.records:
        if r.method == method:
            found.setdefault(r.key, []).append(r.quality)
    return found


def test_oracle_best_of_n_follows_its_law(tmp_path):
    method = BestOfN(n=16, batch=1, value=Oracle())
    study = Bench(questions(400), ["mock:p=0.1"], [method], splits=["test"]).run(tmp_path / "s")
    curves = curve(study, str(method)).values()
    for k in (1, 4, 16):
        truth = 1 - 0.9**k
        measured = sum(c[k - 1] for c in curves) / 200
        assert abs(measured - truth) < 4 * math.sqrt(truth * (1 - truth) / 200)


def test_a_run_is_recorded_in_full(tmp_path):
    bench = Bench(questions(), ["mock:p=0.5"], [Single(), SelfConsistency(n=8, batch=2)], budgets=["tokens_out=1M"])
    study = bench.run(tmp_path / "s")
    assert study.info.status == "done"
    assert {r.status for r in study.records} == {"ok"}
    assert {(r.split, int(r.key[1:]) % 2) for r in study.records} == {("dev", 0), ("test", 1)}
    assert len(study.records) == 20 * (1 + 4)
    assert all(g.n == 8 and g.level == int(g.key[1:]) % 3 for g in study.graded)
    by_method = {row.method: row for row in study.ledger}
    assert by_method["single"].samples == 20
    assert by_method["self_consistency(n=8, batch=2)"].samples == 160
    assert sum(row.shared for row in study.ledger) == 20
    assert json.loads(json.dumps(study.info.provenance))["model_digests"]
    last = [r for r in study.records if r.key == "q1" and r.method != "single"]
    assert [r.per_use.tokens_out for r in last] == sorted({r.per_use.tokens_out for r in last})


def test_the_same_seed_gives_the_same_records_and_another_does_not(tmp_path):
    def rows(seed: int, file: str):
        study = Bench(questions(), ["mock:p=0.4"], [SelfConsistency(n=4)], seed=seed).run(tmp_path / file)
        return [(r.key, r.step, r.answer, r.quality, r.per_use) for r in study.records]

    assert rows(1, "a") == rows(1, "b")
    assert rows(1, "a") != rows(2, "a")


def test_a_budget_that_ends_early_leaves_problems_of_both_splits_that_all_methods_have_tried(tmp_path):
    methods = [Single(), SelfConsistency(n=8), BestOfN(n=8)]
    bench = Bench(questions(40), ["mock:p=0.5"], methods, ["tokens_out=60"], sampling=Sampling(max_tokens=1))
    study = bench.run(tmp_path / "s")
    tried = [
        {(r.split, r.key) for r in study.records if r.method == m and r.status == "ok"}
        for m in {r.method for r in study.records}
    ]
    by_all = set.intersection(*tried)
    assert len(tried) == 3
    assert len(by_all) < 40
    assert {"dev", "test"} == {split for split, _ in by_all}


def test_models_are_compared_in_one_run(tmp_path):
    models = [Mock(Skill(p=0.2)), Mock(Skill(p=0.7))]
    study = Bench(questions(60), models, [Single()]).run(tmp_path / "s")
    right = {m.name: sum(r.quality for r in study.records if r.model == m.name) / 60 for m in models}
    assert right[models[0].name] < right[models[1].name]


def test_a_finished_run_resumes_to_itself_without_paying(tmp_path):
    file = tmp_path / "task.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{i}+1?", "answer": str(i + 1)}) + "\n" for i in range(6)))
    study = Bench(str(file), ["mock:p=0.5"], ["self_consistency(n=8)"], budgets=["tokens_out=2k"]).run(tmp_path / "s")
    again = resume("last", tmp_path / "s")
    assert again.records == study.records
    assert again.ledger == study.ledger
    file.write_text(json.dumps({"prompt": "2+2?", "answer": "4"}))
    with pytest.raises(ValueError, match=r"its task_digest was .*; start a new run"):
        resume("last", tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "no model"),
        ({"models": ["mck:p=1"]}, "unknown kind of model 'mck'.*mock"),
        ({"methods": []}, "no method"),
        ({"methods": ["best_of"]}, "unknown method 'best_of'; known are best_of_n"),
        ({"budgets": ["tokens=3"]}, "must read axis=amount"),
        ({"budgets": ["tokens_out=3"]}, "less than one sample of mock"),
        ({"allocate": "fair"}, "unknown allocator 'fair'; known are expected_gain, first_success, uniform"),
        ({"splits": ["train"]}, "unknown split 'train'"),
        ({"limit": 0}, "has no questions"),
        ({"lookahead": 0.5}, "lookahead=0.5 must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_spent(tmp_path, change, message):
    asked = {"task": questions(), "models": ["mock:p=0.5"], "methods": ["single"]} | change
    with pytest.raises(ValueError, match=message):
        Bench(**asked).run(tmp_path / "s")
    with Store(tmp_path / "s") as store:
        assert store.runs() == []


def test_runs_where_an_event_loop_is_running_already(tmp_path):
    async def notebook() -> Study:
        return Bench(questions(), ["mock:p=0.5"], [Single()]).run(tmp_path / "s")

    assert asyncio.run(notebook()).info.status == "done"


class Fails(LastWord):
    """Cannot read every third sample, cannot compare 7 with anything, and cannot tell whether 5 is right."""

    def extract(self, text: str) -> str | None:
        answer = super().extract(text)
        if answer and int(answer.strip(".")) % 3 == 0:
            raise GraderError(f"{answer} is too much")
        return answer

    def grade(self, answer: str, question: Question) -> float:
        if self.canonical(answer) == "5":
            raise GraderError("5 cannot be told")
        return super().grade(answer, question)

    def groups(self, answers) -> list[int]:
        if "7" in map(self.canonical, answers):
            raise GraderError("7 cannot be compared")
        return super().groups(answers)


def test_what_a_grader_cannot_judge_is_neither_wrong_nor_the_end_of_a_problem(tmp_path):
    asked = [Question(f"q{i}", f"{i}+1?", str(i + 1), Fails()) for i in range(8)]  # 3 and 6 cannot be read
    methods = [Single(), SelfConsistency(n=8, batch=2), BestOfN(n=8, batch=2, value=Oracle())]
    study = Bench(Questions("sums", asked), ["mock:p=1"], methods).run(tmp_path / "s")
    single = {r.key: r for r in study.records if r.method == "single"}
    for key in ("q2", "q5"):
        assert single[key].status.startswith("failed: grader: it failed 1 times, last on: ")
        assert math.isnan(single[key].quality)
    assert single["q4"].status == "failed: grader: 5 cannot be told"
    judged = {"q0", "q1", "q3", "q6", "q7"}
    assert {key for key, r in single.items() if r.quality == 1.0} == judged
    for method in methods[1:]:  # every problem goes on to the last of its samples
        assert sum(r.method == str(method) for r in study.records) == 8 * 4
    (vote,) = [r for r in study.records if "self" in r.method and r.key == "q6" and r.step == 3]
    assert vote.quality == 1.0  # by their words
    assert {g.key: (g.n, g.c) for g in study.graded if g.n} == dict.fromkeys(judged, (8, 8))
    assert study.info.outcome["grader_faults"] > 0
    front = Frontier(study.records, "tokens_out")
    assert front.left_out == 3
    assert {c.quality.min() for c in front.curves} == {1.0}


def test_a_question_that_a_model_does_not_take_is_named_before_anything_is_spent(tmp_path, monkeypatch):
    estimate = Mock.estimate

    def short(self, request):
        if len(request.prompt) > 4:
            raise ModelError("the prompt has 5 characters; the mock takes at most 4")
        return estimate(self, request)

    monkeypatch.setattr(Mock, "estimate", short)
    store = tmp_path / "store.db"
    with pytest.raises(ModelError, match="question q11 cannot be asked: the prompt has 5 characters; .* at most 4"):
        Bench(Questions("sums", [*questions(12)][:1] + [*questions(12)][11:]), [Mock(Skill(p=0.5))]).run(store)
    with Store(store) as opened:
        assert opened.runs() == []


def test_coverage_and_majority_reproduce_the_golden_curves(tmp_path):
    """bestofn's README: Qwen2.5-0.5B on GSM8K. Beta(0.441, 0.549) is the published fit to its coverage; six wrong
    answers, one of them a fifth of all wrong samples, are ours, fitted to its majority curve (0.018 off at most)."""
    n, problems = 32, 160
    golden = {4: (0.666, 0.530), 8: (0.750, 0.583), 16: (0.817, 0.618), 32: (0.867, 0.640)}
    method = SelfConsistency(n=n, batch=4)
    study = Bench(questions(problems), ["mock:beta=0.441:0.549,wrong=6,lure=0.2"], [method]).run(tmp_path / "s")
    counts = np.array([g.n for g in study.graded]), np.array([g.c for g in study.graded])
    for k, (coverage, majority) in golden.items():
        within = 3 * math.sqrt(coverage * (1 - coverage) / problems)
        assert float(pass_at_k(*counts, k).mean()) == pytest.approx(coverage, abs=within)
        voted = [r.quality for r in study.records if r.step == k // 4 - 1]
        assert len(voted) == problems
        assert np.mean(voted) == pytest.approx(majority, abs=3 * math.sqrt(majority * (1 - majority) / problems))
