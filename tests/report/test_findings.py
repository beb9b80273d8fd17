from __future__ import annotations

import math
from dataclasses import replace

import pytest

from isoflop.frontier import Frontier, FrontierError
from isoflop.report.findings import Findings


@pytest.fixture(scope="module")
def found(study):
    return Findings(study)


def test_the_first_budget_sets_the_axis_and_test_is_what_is_shown(found):
    assert (found.axis, found.split) == ("tokens_out", "test")
    assert found.frontier.problems == 30
    assert found.share


def test_an_axis_without_costs_says_why(found):
    assert isinstance(found.on("flops"), Frontier)
    assert "nothing was spent in wall_s" in found.on("wall_s")


def test_an_unknown_axis_of_choice_gives_way_unless_it_was_asked_for(study):
    rows = [replace(r, per_use=replace(r.per_use, tokens_out=math.nan)) for r in study.records]
    assert Findings(replace(study, records=rows)).axis == "flops"
    with pytest.raises(FrontierError, match="cost in tokens_out of .* is unknown"):
        Findings(replace(study, records=rows), "tokens_out")


def test_headline_says_what_to_run_and_what_it_gives(found):
    best = found.plans[-1]
    first = found.headline[0]
    assert found.name(best.choice) in first
    assert "oracle" not in first
    assert f"{best.choice.quality.value:.1%}" in first
    assert "of the 30 test problems" in first
    assert any("A perfect verifier would reach" in line for line in found.headline)


def test_a_point_is_named_by_the_method_that_ends_there(found):
    curve = found.frontier.curve("self_consistency(n=8, batch=2)", found.models[1])
    names = [found.command(found.frontier.point(curve, step)) for step in range(4)]
    assert names == [f"self_consistency(n={n}, batch=2)" for n in (2, 4, 6, 8)]
    other = replace(found.frontier.point(curve, 1), method="from_elsewhere(x=1)")
    found._last_step[other.model, other.method] = 3
    assert found.command(other) == "from_elsewhere(x=1), stopped after answer 2"


def test_plans_go_from_cheap_to_dear_and_differ(found):
    limits = [p.budget.limit for p in found.plans]
    assert limits == sorted(limits)
    choices = [(p.choice.model, p.choice.method, p.choice.step) for p in found.plans]
    assert len(set(choices)) == len(choices) > 1
    assert all((p.chosen_on, p.checked_on) == ("dev", "test") for p in found.plans)


def test_answers_are_those_of_the_point(found):
    choice = found.plans[-1].choice
    answers = found.answers(choice)
    assert len(answers) == 60
    on_test = [r.quality for r in answers.values() if r.split == "test"]
    assert sum(on_test) / len(on_test) == pytest.approx(choice.quality.value)


def test_coverage_is_doubted_where_samples_depended_on_answers(study, found):
    assert found.coverage_caveat == ""
    eager = study.info.config | {"allocate": {"name": "first_success"}}
    assert "first_success" in Findings(replace(study, info=replace(study.info, config=eager))).coverage_caveat
    stopping = study.info.config | {"methods": [{"name": "best_of_n", "stop": {"name": "confident"}}]}
    assert "stopped early" in Findings(replace(study, info=replace(study.info, config=stopping))).coverage_caveat


def test_roles_add_up(hostile):
    found = Findings(hostile)
    assert found.roles["judge"].replayed == 3
    generated = [r for r in hostile.ledger if r.role == "generate"]
    assert found.roles["generate"].samples == sum(r.samples for r in generated)
    assert found.roles["generate"].paid.tokens_out == sum(r.paid.tokens_out for r in generated)


def test_what_limits_the_findings_is_said(study, hostile, empty):
    over = study.info.outcome | {"overshoot": {"tokens_out": 12.0, "wall_s": 0.0}}
    said = " ".join(Findings(replace(study, info=replace(study.info, outcome=over))).notices)
    assert "tokens_out=100000 was exceeded by 12" in said
    assert any("not complete: stopped" in line for line in Findings(hostile).notices)
    nothing = Findings(empty())
    assert nothing.frontier is None
    assert "no records" in nothing.headline[0]
    assert nothing.summaries == nothing.plans == nothing.coverage == []


def test_one_split_serves_for_both(study):
    rows = [r for r in study.records if r.split == "dev"]
    found = Findings(replace(study, records=rows))
    assert found.split is None
    assert any("same problems" in line for line in found.notices)
    assert "of the 30 problems" in found.headline[0]


def test_qualities_that_are_no_shares_are_no_percentages(study):
    losses = [replace(r, quality=-3.5 + r.quality) for r in study.records]
    found = Findings(replace(study, records=losses))
    assert not found.share
    assert "reaches a quality of" in found.headline[0]
    assert "%" not in found.headline[0]
