"""Agent attention is generalised linear attention of rank n, at 2 n / N of the FLOPs, and never causal."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from isoflop.cost import FREE, Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.architecture.agent_attention import (  # noqa: E402
    AgentAttention,
    AgentMultihead,
    agent_attention,
    pooled,
    with_agents,
)
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

D, T = 8, 16


@pytest.fixture(autouse=True)
def _still():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def encoder(**more):
    layer = nn.TransformerEncoderLayer(D, 2, 16, 0.0, batch_first=True, **more)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()


def workload():
    data = Data((torch.randn(6, T, D),), torch.randn(6, T, D))
    return Workload("toy", data, data, data, lambda out, t: -((out - t) ** 2).mean((1, 2)))


def test_it_is_linear_attention_with_two_softmaxes_for_features():
    q, k, v = (torch.randn(2, 3, 40, D) for _ in range(3))
    agents = torch.randn(2, 3, 5, D)
    of_queries = (q @ agents.mT / D**0.5).softmax(-1)
    of_keys = (agents @ k.mT / D**0.5).softmax(-1).mT
    linear = of_queries @ (of_keys.mT @ v)
    assert torch.allclose(agent_attention(q, agents, k, v), linear, atol=1e-6)


def test_its_rank_is_at_most_the_agents():
    q, k = torch.randn(40, D), torch.randn(40, D)
    mixing = agent_attention(q, torch.randn(5, D), k, torch.eye(40))
    assert torch.linalg.matrix_rank(mixing.double(), rtol=1e-5) <= 5
    assert torch.allclose(mixing.sum(1), torch.ones(40), atol=1e-5)
    full = functional.scaled_dot_product_attention(q[None], k[None], torch.eye(40)[None])
    assert torch.linalg.matrix_rank(full[0].double(), rtol=1e-5) > 5


@pytest.mark.parametrize("tokens", [196, 1024, 4096])
def test_flops_are_two_agents_for_each_token(tokens):
    q = torch.empty(1, tokens, D, device="meta")
    agents = torch.empty(1, 49, D, device="meta")
    with OpMeter() as plain:
        functional.scaled_dot_product_attention(q, q, q)
    with OpMeter() as ours:
        agent_attention(q, agents, q, q)
    assert plain.flops / ours.flops == tokens / (2 * 49)


def test_agents_are_means_of_squares_or_of_stretches():
    q = torch.arange(16.0).view(1, 1, 16, 1)
    assert pooled(q, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pooled(q, 2).flatten().tolist() == [3.5, 11.5]


def test_with_an_agent_for_each_token_and_sharp_queries_it_comes_near_softmax():
    """Each query is its own agent; where queries are far apart the first softmax picks just that one."""
    q, k, v = 30 * torch.eye(D)[None], torch.randn(1, D, D), torch.randn(1, D, D)
    assert torch.allclose(agent_attention(q, q, k, v), functional.scaled_dot_product_attention(q, k, v), atol=1e-4)


@pytest.mark.parametrize("batch_first", [True, False])
def test_it_takes_the_place_of_multi_head_attention(batch_first):
    attention = nn.MultiheadAttention(D, 2, batch_first=batch_first)
    x = torch.randn(3, T, D)
    ours = AgentMultihead(attention, 4)
    with torch.no_grad():
        q, k, v = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, 2)
        heads = [part.unflatten(2, (2, -1)).transpose(1, 2) for part in (q, k, v)]
        mixed = agent_attention(heads[0], pooled(heads[0], 4), heads[1], heads[2]).transpose(1, 2).flatten(2)
        given = x if batch_first else x.transpose(0, 1)
        found = ours(given, given, given)[0]
    assert torch.allclose(found if batch_first else found.transpose(0, 1), attention.out_proj(mixed), atol=1e-6)


def test_it_keeps_the_contract_and_what_it_yields_can_be_kept():
    task = Shrinking(encoder(), workload())
    method = AgentAttention(agents=(4, 2), steps=2, batch=3)
    check_method(method, task)
    shrunk = list(method.run(task.open("toy", Meter(), None, 0), Meter(), np.random.default_rng(0)))
    assert [s.note for s in shrunk] == ["4 agents in 2 attentions", "2 agents in 2 attentions"]
    file = io.BytesIO()
    torch.save(shrunk[0].module, file)
    file.seek(0)
    x = torch.randn(2, T, D)
    with torch.no_grad():
        assert torch.equal(torch.load(file, weights_only=False)(x), shrunk[0].module(x))


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 2, batch_first=True)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]


@pytest.mark.parametrize(("model", "why"), [(Causal(), "causal or masked"), (nn.Linear(D, D), "no attention")])
def test_what_it_would_break_is_refused_before_anything_is_spent(model, why):
    meter = Meter()
    with pytest.raises(Refused, match=why):
        next(AgentAttention().run(Original(model.eval(), workload(), meter, model), meter, np.random.default_rng(0)))
    assert meter.spent == FREE


def test_a_mask_at_run_time_is_refused_too():
    with pytest.raises(ValueError, match="no masks"):
        with_agents(Causal(), 4)(torch.randn(1, T, D))


def test_no_agents_make_no_sense():
    with pytest.raises(ValueError, match="at least 1"):
        AgentAttention(agents=(0,))
