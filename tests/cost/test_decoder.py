"""The closed forms equal sums over tokens, and what torch counts on a decoder built by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.cost.decoder import DecoderShape

torch = pytest.importorskip("torch")
flop_counter = pytest.importorskip("torch.utils.flop_counter")

SHAPES = [
    DecoderShape(n_layers=2, d_model=24, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=40, vocab=50),
    DecoderShape(n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=32, vocab=20, gated=False),
]


class Decoder:
    """A decoder with a cache that computes one token at a time; norms and rotary embedding left out."""

    def __init__(self, shape: DecoderShape) -> None:
        s = shape
        self.s = s
        sizes = [(s.d_model, s.n_heads * s.head_dim), *[(s.d_model, s.n_kv_heads * s.head_dim)] * 2]
        sizes += [(s.n_heads * s.head_dim, s.d_model), *[(s.d_model, s.d_ff)] * (1 + s.gated), (s.d_ff, s.d_model)]
        self.layers = [[torch.randn(size) for size in sizes] for _ in range(s.n_layers)]
        self.embedding = torch.randn(s.vocab, s.d_model)
        self.cache = [[torch.zeros(s.n_kv_heads, 0, s.head_dim)] * 2 for _ in range(s.n_layers)]

    def step(self, token: int, logits: bool) -> None:
        s = self.s
        x = self.embedding[token][None]
        for (wq, wk, wv, wo, *up, down), cache in zip(self.layers, self.cache):
            q = (x @ wq).view(1, s.n_heads, s.head_dim).transpose(0, 1)
            new = [(x @ w).view(1, s.n_kv_heads, s.head_dim).transpose(0, 1) for w in (wk, wv)]
            cache[:] = [torch.cat(pair, 1) for pair in zip(cache, new)]
            k, v = (c.repeat_interleave(s.n_heads // s.n_kv_heads, 0) for c in cache)
            mixed = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
            x = x + mixed.transpose(0, 1).reshape(1, -1) @ wo
            hidden = x @ up[0]
            if s.gated:
                hidden = hidden * (x @ up[1])
            x = x + torch.relu(hidden) @ down
        if logits:
            x @ self.embedding.T


def counted(shape: DecoderShape, tokens: int, logits: int, before: int = 0) -> int:
    torch.set_num_threads(1)
    decoder = Decoder(shape)
    for _ in range(before):
        decoder.step(0, logits=False)
    with flop_counter.FlopCounterMode(display=False) as counter:
        for i in range(tokens):
            decoder.step(0, logits=i >= tokens - logits)
    return counter.get_total_flops()


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_are_those_that_torch_counts(shape):
    assert shape.flops(7) == counted(shape, 7, logits=1)
    assert shape.flops(3, cached=7, logits=3) == counted(shape, 3, logits=3, before=7)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_its_matrices(shape):
    decoder = Decoder(shape)
    norms = (2 * shape.n_layers + 1) * shape.d_model
    assert shape.params == sum(w.numel() for layer in decoder.layers for w in layer) + decoder.embedding.numel() + norms


def test_untied_logits_have_their_own_matrix():
    tied = SHAPES[0]
    untied = DecoderShape(2, 24, 4, 2, 8, 40, 50, tied=False)
    assert untied.params - tied.params == 50 * 24
    assert untied.flops(5) == tied.flops(5)


@given(st.integers(0, 300), st.integers(1, 60), st.integers(1, 60))
def test_computing_in_two_pieces_costs_the_same(cached, first, second):
    s = SHAPES[0]
    whole = s.flops(first + second, cached, logits=1)
    assert s.flops(first, cached, logits=0) + s.flops(second, cached + first, logits=1) == whole


def test_attention_is_a_triangle():
    s = SHAPES[0]
    linear = 2 * s.n_layers * s.layer_params
    attention = [s.flops(t, logits=0) - t * linear for t in (1, 2, 3, 100)]
    unit = 4 * s.n_layers * s.n_heads * s.head_dim
    assert attention == [unit * n for n in (1, 3, 6, 5050)]


def test_smollm2_has_as_many_parameters_as_its_name_says():
    shape = DecoderShape(n_layers=30, d_model=576, n_heads=9, n_kv_heads=3, head_dim=64, d_ff=1536, vocab=49152)
    assert shape.params == 134_515_008


def test_cache_traffic_counts_each_key_and_value_once_and_new_ones_twice():
    s = SHAPES[0]
    token = s.kv_bytes(1)
    assert token == 2 * 2 * 2 * 8 * 2  # keys and values, layers, heads, width, bytes
    assert s.kv_traffic(1, cached=9) == 11 * token
    assert s.kv_traffic(10) == 20 * token
