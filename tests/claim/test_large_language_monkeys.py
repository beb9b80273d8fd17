"""The claim holds on the mock, whose truth is the law, and fails where it should."""

from __future__ import annotations

from isoflop.claim import claims
from isoflop.claim.large_language_monkeys import _compare, _sample
from isoflop.model.base import Sampling
from isoflop.model.mock import Mock, Skill
from isoflop.task import Question, Questions
from isoflop.task.graders.exact import Exact


def test_quick():
    evidence = claims()["large_language_monkeys"].run("quick")
    assert evidence.holds, [f for f in evidence.findings if not f.holds]
    assert len(evidence.findings) == 4


def test_where_all_problems_are_alike_majority_does_not_level_off_and_the_claim_fails():
    """With p = 0.35 and many wrong answers, voting goes on to certainty: the plateau is a property of the problems."""
    asked = Questions("easy", [Question(f"q{i}", f"Problem {i}?", f"answer {i}", Exact()) for i in range(60)])
    study = _sample(asked, Mock(Skill(p=0.12, wrong=12)), 64, Sampling())
    assert not all(f.holds for f in _compare("alike", study, 64))
