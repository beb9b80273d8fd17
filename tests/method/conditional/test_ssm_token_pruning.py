"""Tokens that stay keep their order and distance, and FLOPs fall with those that go."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from isoflop.cost import FREE, Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.selective_ssm import SsmBlock  # noqa: E402
from isoflop.method.conditional.ssm_token_pruning import Pruned, SsmTokenPruning  # noqa: E402
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, T = 6, 10


@pytest.fixture(autouse=True)
def _still():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def net(blocks=4):
    chain = nn.Sequential(*(SsmBlock(D, 8, 2) for _ in range(blocks)))
    return nn.Sequential(nn.Linear(2, D), chain, Mean(), nn.Linear(D, 2)).eval()


def workload(targets=True):
    data = [Data((torch.randn(12, T, 2),), torch.randint(2, (12,))) for _ in range(3)]
    data[0] = data[0] if targets else Data(data[0].inputs)
    return Workload(
        "toy",
        *data,
        score=lambda out, t: (out.argmax(1) == t).float(),
        loss=functional.cross_entropy if targets else None,
    )


def test_the_tokens_that_matter_most_stay_in_order_with_their_gaps():
    blocks, seen = [SsmBlock(D, 8, 2) for _ in range(3)], []
    pruned = Pruned(blocks, {0: 0.5, 1: 0.6})
    x = torch.randn(1, T, D)
    passed, matters = blocks[0].scored(x)
    stay = matters[0].topk(5).indices.sort().values
    plain = blocks[1].scored

    def spy(tokens, left_out=None):
        seen.append((tokens, left_out))
        return plain(tokens, left_out)

    blocks[1].scored = spy
    assert pruned(x).shape == (1, 3, D)
    tokens, left_out = seen[0]
    assert torch.equal(tokens[0], passed[0, stay])
    assert left_out[0].cumsum(0).tolist() == (stay - torch.arange(5)).tolist()


def test_keeping_all_is_the_original():
    chain, x = nn.Sequential(*(SsmBlock(D, 8, 2) for _ in range(3))), torch.randn(2, T, D)
    assert torch.allclose(Pruned(list(chain), {0: 1.0, 1: 1.0})(x), chain(x), atol=1e-6)


def test_flops_fall_with_the_tokens():
    blocks, x = [SsmBlock(D, 8, 2) for _ in range(4)], torch.randn(1, T, D)
    spent = []
    for kept in ({}, {1: 0.5}):
        with OpMeter() as ops, torch.no_grad():
            Pruned(blocks, kept)(x)
        spent.append(ops.flops)
    assert spent[1] == 0.75 * spent[0]


@pytest.mark.parametrize("targets", [True, False])
def test_it_keeps_the_contract(targets):
    check_method(SsmTokenPruning(kept=(0.8, 0.5), steps=2, batch=4), Shrinking(net(), workload(targets)))


def test_what_it_yields_can_be_kept_and_the_original_stays():
    model, work = net(), workload()
    before = [p.clone() for p in model.parameters()]
    method, problem = SsmTokenPruning(kept=(0.7, 0.5), steps=3), Original(model, work, Meter(), model)
    shrunk = list(method.run(problem, problem.meter, np.random.default_rng(0)))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert "70%" in shrunk[0].note
    file = io.BytesIO()
    torch.save(shrunk[1].module, file)
    file.seek(0)
    x = torch.randn(3, T, 2)
    with torch.no_grad():
        assert torch.equal(torch.load(file, weights_only=False)(x), shrunk[1].module(x))
        assert torch.allclose(shrunk[1].module(x[:1]), shrunk[1].module(x)[:1], atol=1e-6)


def test_what_is_no_state_space_model_is_refused():
    model, meter = nn.Linear(2, 2), Meter()
    with pytest.raises(Refused, match="no state space model"):
        next(SsmTokenPruning().run(Original(model, workload(), meter, model), meter, np.random.default_rng(0)))
    assert meter.spent == FREE


def test_words_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="kept="):
        SsmTokenPruning(kept=(0.0,))
    with pytest.raises(ValueError, match="output or random"):
        SsmTokenPruning(by="magic")
