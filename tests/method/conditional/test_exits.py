"""Heads, rules, and a model that is left early."""

import io

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.method.conditional.blocks import find_chain  # noqa: E402
from isoflop.method.conditional.exits import (  # noqa: E402
    Confidence,
    Consistency,
    EarlyExit,
    Similarity,
    TailHead,
    build_heads,
    confidence,
    dropped_after,
    token_similarity,
)
from isoflop.method.shrink import Refused  # noqa: E402

B, T, D, K = 7, 5, 8, 3


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(D, D)

    def forward(self, x):
        return x + self.inner(x).relu()


class Tokens(nn.Module):
    """[B, T, D] to an answer a token, or for the whole."""

    def __init__(self, pooled=False, functional=False):
        super().__init__()
        self.layers = nn.ModuleList(Residual() for _ in range(4))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, K)
        self.pooled, self.functional = pooled, functional

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        x = x.mean(1) if self.pooled else x
        return self.head(self.norm(x)) * (2 if self.functional else 1)


def exit_model(net, x, rule=None, **changes):
    chain = find_chain(net, (x[:1],))
    places = chain.places(6)
    heads = build_heads(net, chain, places, (x,))
    return EarlyExit(net, [chain.blocks[i] for i in places], heads, rule or Confidence(False), **changes), chain


def test_the_models_own_last_layers_are_used_where_they_fit():
    x = torch.randn(B, T, D)
    model, _ = exit_model(Tokens(), x)
    assert all(isinstance(head, TailHead) for head in model.heads)
    assert stored_bytes(model) == stored_bytes(model.trunk) + 3 * (D * D + D) * 4 + 3 * 8  # maps and thresholds
    whole = TailHead(D, [model.trunk.norm, model.trunk.head])  # starts as the model's own end
    last = x
    for layer in model.trunk.layers:
        last = layer(last)
    assert torch.equal(whole(last), model.trunk(x))


@pytest.mark.parametrize(("end", "at_zero"), [(nn.Sigmoid(), 0.5), (nn.Softmax(1), 1 / K), (nn.Identity(), 0.0)])
def test_heads_end_as_the_model_does(end, at_zero):
    """Heads start as maps to zero; a loss of probabilities must get probabilities from them too."""
    net = nn.Sequential(*(nn.Sequential(nn.Linear(D, D), nn.Tanh()) for _ in range(3)), nn.Linear(D, K), end)
    x = torch.randn(B, D)
    heads = build_heads(net, find_chain(net, (x[:1],)), [0], (x,))
    assert torch.allclose(heads[0](heads[0].features(x)), torch.full((B, K), at_zero))


@pytest.mark.parametrize("pooled", [True, False])
def test_else_a_linear_head_has_the_outputs_shape(pooled):
    x = torch.randn(B, T, D)
    model, _ = exit_model(Tokens(pooled, functional=True), x)
    assert not any(isinstance(head, TailHead) for head in model.heads)
    scores, exits, last = model.every(x)
    assert scores.shape == (B, 3)
    assert {e.shape for e in exits} == {last.shape}


def test_pictures_to_pictures():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 2, 2, 2)
    )
    x = torch.randn(B, 1, 8, 8)
    model, _ = exit_model(net, x)
    assert [tuple(e.shape) for e in model.every(x)[1]] == [(B, 2, 8, 8)] * 2


def test_leaving_truly_skips_and_costs_what_was_measured():
    x = torch.randn(B, T, D)
    model, _ = exit_model(Tokens(), x)
    costs = model.costs((x[:1],))
    assert model.thresholds.isinf().all()
    block, head = 2 * T * D * D, 2 * T * (D * D + D * K)
    assert costs == [block + head, 2 * (block + head), 3 * (block + head), 4 * block + 3 * head + 2 * T * D * K]
    for k in range(4):
        model.thresholds[:] = torch.tensor([1e9] * k + [-1e9] * (3 - k))
        with OpMeter() as ops:
            model(x[:1])
        assert ops.flops == costs[k]


@pytest.mark.parametrize("rule", [Confidence(False), Consistency(1.0), Similarity()])
def test_a_batch_changes_no_answer(rule):
    x = torch.randn(40, T, D)
    model, _ = exit_model(Tokens(), x, rule)
    scores = model.every(x)[0]
    model.thresholds[:] = torch.where(scores.isinf().all(0), torch.inf, scores.quantile(0.7, dim=0))
    with torch.no_grad():
        alone = torch.cat([model(row[None]) for row in x])
        assert torch.allclose(model(x), alone, atol=1e-5)
        full = model.trunk(x)
        assert 0 < (alone - full).flatten(1).abs().amax(1).gt(1e-4).sum() < 40  # some left early, some did not


def test_it_can_be_saved_and_cut_off():
    x = torch.randn(B, T, D)
    model, chain = exit_model(Tokens(functional=True), x)
    model.thresholds[1] = -torch.inf
    before = model(x)
    whole = stored_bytes(model)
    dropped_after(model, chain, 1)
    assert stored_bytes(model) < whole - 2 * D * D * 4
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), before)


def test_confidence_ranks_like_the_largest_probability_and_does_not_saturate():
    logits = torch.randn(50, K) * 3
    p = logits.softmax(-1)
    odds = confidence(logits, False)
    assert torch.allclose(odds, torch.logit(p.amax(-1)), atol=1e-2)
    assert torch.allclose(confidence(p, True), odds, atol=1e-2)
    sure = confidence(torch.tensor([[100.0, 0, 0], [200.0, 0, 0]]), False)
    assert sure[0] < sure[1]


def test_sink_tokens_do_not_count():
    before, after = torch.randn(2, 6, D), torch.randn(2, 6, D)
    plain = token_similarity(before, after, 1e9)
    before[:, 0] = after[:, 0] = 1e4
    assert torch.nn.functional.cosine_similarity(before.flatten(1), after.flatten(1)).min() > 0.999
    apart = token_similarity(before, after, 8.0)
    assert apart.max() < 0.6
    assert torch.allclose(apart, token_similarity(before[:, 1:], after[:, 1:], 8.0))
    assert not torch.allclose(plain, apart)
    with pytest.raises(Refused, match="changes shape from"):
        token_similarity(torch.ones(1, 2, 3), torch.ones(1, 2, 4), 8.0)
