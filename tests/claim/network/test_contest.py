"""Contestants are trained, charged and compared as the claims say."""

from __future__ import annotations

import importlib

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from isoflop.claim import CouldNotRunError, claims  # noqa: E402
from isoflop.claim.network import agents, contest, rows, scans, widths  # noqa: E402
from isoflop.claim.network.contest import Result, as_good_as, seeded, trained  # noqa: E402
from isoflop.method.shrink import Data, Workload, digest  # noqa: E402
from isoflop.model.pull import absent  # noqa: E402

mnist = pytest.mark.skipif(bool(absent("mnist")), reason=absent("mnist"))
SLUGS = ("continual_inference", "acm", "ssm_token_pruning", "agent_attention")


@pytest.fixture(autouse=True)
def _still(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(contest, "TRAIN", 100)


def workload():
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    data = Data((x,), (x[:, 0] > 0).long())
    return Workload("toy", data, data, data, lambda out, t: (out.argmax(1) == t).float(), loss=functional.cross_entropy)


def net():
    return nn.Linear(4, 2)


def test_training_is_paid_for_and_worth_it():
    model = seeded(net)
    before = contest.tested(model, workload(), 0.0)
    spent = trained(model, workload(), 300)
    after = contest.tested(model, workload(), spent)
    step = 2 * (2 * 50 * 4 * 2)  # forward, and the weights' gradient
    assert spent == 300 * step
    assert after.flops == 2 * 4 * 2
    assert after.scores.mean() > max(0.7, before.scores.mean())
    assert as_good_as(net, workload(), spent).once == spent


def test_the_same_seed_is_the_same_network():
    assert digest(seeded(net)) == digest(seeded(net)) != digest(seeded(net, 1))


def test_a_gain_has_its_paired_interval():
    a, b = Result(np.array([1.0, 1, 0, 1]), 2e6, 3e6), Result(np.array([1.0, 0, 0, 1]), 1e6, 3e6)
    low, mean, high = a.above(b)
    assert low < mean < high
    assert mean == 0.25
    assert high - mean == pytest.approx(1.96 * 0.5 / 2)
    assert a.figures() == [0.75, 2.0, 3]


@mnist
def test_a_stream_of_digits_costs_what_is_counted_by_hand():
    found = {f.what: f for f in rows.findings(8, 3, 50)}
    first, second = found["the same answers with the same weights"], found["convolutions: 10 times fewer FLOPs a row"]
    assert first.holds
    window = 2 * 5 * 8 * (28 * 24 + 8 * 20 + 8 * 16) + 2 * 8 * 10
    step = 2 * 5 * 8 * (28 + 8 + 8) + 2 * 8 * 10
    assert second.measured["ratio"] == pytest.approx(window / step, abs=1e-3)
    assert len(found) == 6


def test_an_answer_is_held_until_the_next_one():
    outputs = torch.arange(8.0).view(1, 8, 1)
    assert rows._held(outputs, 3, 0).flatten().tolist() == [0, 0, 0, 3, 3, 3, 6, 6]
    assert rows._held(outputs, 3, 1).flatten().tolist() == [0, 1, 1, 1, 4, 4, 4, 7]


@mnist
def test_agents_cost_what_they_say():
    learnt, as_good, costs, _ = agents.findings([28], 2, 20, 1.0)
    assert [f.holds for f in (learnt, as_good, costs)] == [False, True, True]
    assert costs.measured["ratio"] == pytest.approx(49 / 32)


@mnist
def test_pruned_scans_save_what_they_say_and_all_ways_cost_the_same():
    learnt, first, *others = scans.findings(2, 1, 20)
    assert not learnt.holds
    assert first.measured["saved"] == pytest.approx(0.4, abs=0.02)
    costs = {row[1] for name, row in first.measured.items() if "trained" in name}
    assert len(costs) == 1
    assert first.measured["narrower"][1] == pytest.approx(costs.pop(), rel=0.1)
    assert len(others) == 4


@mnist
def test_learners_cost_what_their_random_router_costs():
    _, first, *_ = widths.findings(3, 2, 20, (0.5,))
    ours, random = first.measured["adaptive"], first.measured["random router of the same odds"]
    assert random[1] == pytest.approx(ours[1], rel=0.1)


@pytest.mark.parametrize("slug", SLUGS)
def test_without_torch_or_digits_it_could_not_be_tested(slug, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(CouldNotRunError, match="isoflop pull mnist"):
            claims()[slug].run("quick")
    real = importlib.import_module

    def without(name):
        if name.startswith("isoflop.claim.network"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(CouldNotRunError, match=r"needs torch: pip install 'isoflop\[torch,examples\]'"):
        claims()[slug].findings("quick")
