import numpy as np
import pytest
import torch

from isoflop.model.tiny.decoder import Decoder, architecture_for
from isoflop.model.tiny.engine import Network
from isoflop.model.tiny.kernel import LANES, PAGE, VECTORS, compiled, draw, exp, load, panels, product, random, store

torch.set_num_threads(1)
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def multiplied(x, w):
    packed = panels(w)
    out = np.full((len(x), packed.shape[0] * LANES * VECTORS), np.nan, np.float32)
    product(x, packed, out)
    return out


@pytest.mark.parametrize(("K", "N"), [(128, 256), (320, 128), (16, 17), (48, 100), (1, 1)])
def test_a_product_is_right_and_a_rows_bits_do_not_depend_on_the_rows_beside_it(K, N):
    x, w = normal(53, K), normal(K, N)
    whole = multiplied(x, w)
    assert whole[:, :N] == pytest.approx(x.astype(float) @ w.astype(float), abs=1e-4)
    assert (whole[:, N:] == 0).all()
    for rows in (slice(0, 1), slice(5, 12), slice(7, 53), slice(40, 46)):
        assert (multiplied(x[rows].copy(), w) == whole[rows]).all()


@compiled
def _exps(x, y):
    for i in range(0, len(x), LANES):
        store(y, i, exp(load(x, i)))


def test_the_exponential_is_right_to_float_precision():
    x = np.linspace(-86, 87, 1600).astype(np.float32)
    y = np.empty_like(x)
    _exps(x, y)
    assert y == pytest.approx(np.exp(x.astype(float)), rel=3e-7)
    far = np.repeat(np.array([-1e30, 1e30], np.float32), LANES)
    _exps(far, far)
    assert (far[:LANES] == 0).all()
    assert far[LANES:] == pytest.approx(np.exp(88), rel=1e-5)


@pytest.mark.parametrize("params", [9e3, 33e3, 400e3])
def test_logits_are_those_of_the_network_in_pytorch_whatever_the_batch_and_the_threads(params):
    decoder = Decoder(architecture_for(params, "0123456789:\n", (":", "\n"), (24, 30)))
    decoder.initialise(0)
    torch.nn.init.normal_(decoder.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    texts = ["7:", "12345678901234567890123:4567890123456", "1:23", "99999999:9", "0123456789012345:0"] * 9
    a = decoder.architecture
    asked = [(a.encode(text), a.positions(text)) for text in texts]
    most = -(-a.context // PAGE)
    pages = [[*range(most * i, most * i + -(-len(text) // PAGE))] for i, text in enumerate(texts)]
    together, ends = Network(decoder, most * len(texts), 1).read(asked, pages)
    in_two_threads, _ = Network(decoder, most * len(texts), 2).read(asked, pages)
    assert (together == in_two_threads).all()
    for i in range(5):
        mine = together[ends[i] - len(texts[i]) : ends[i]]
        alone, _ = Network(decoder, most, 1).read(asked[i : i + 1], [[*range(most)][::-1][: len(pages[i])]])
        assert (alone == mine).all()
        with torch.inference_mode():
            expected = decoder(*(torch.tensor([one]) for one in asked[i]))[0].numpy()
        assert mine[:, : a.vocabulary] == pytest.approx(expected, abs=2e-4)


def test_a_draw_inverts_the_cumulated_probabilities_of_the_nucleus():
    p = np.array([0.0, 0.5, 0.1, 0.3, 0.1])  # 0 is padding, whatever its logit
    logits = np.zeros((6, LANES), np.float32)
    logits[:, :5] = np.log(np.where(p > 0, p, 1e6))
    uniform = np.array([0.0, 0.499, 0.501, 0.599, 0.601, 0.9999])
    tokens, logprobs = draw(logits, 5, np.ones(6), np.ones(6), uniform)
    assert tokens.tolist() == [1, 1, 2, 2, 3, 4]
    assert logprobs == pytest.approx(np.log(p[tokens]), abs=1e-6)
    assert draw(logits, 5, np.ones(6), np.full(6, 0.7), uniform)[0].tolist() == [1, 1, 1, 1, 1, 3]
    assert draw(logits, 5, np.zeros(6), np.ones(6), uniform)[0].tolist() == [1] * 6
    cold, logprobs = draw(logits, 5, np.full(6, 0.5), np.ones(6), uniform)  # squares: 25, 1, 9 and 1 of 36
    assert cold.tolist() == [1, 1, 1, 1, 1, 4]
    assert logprobs == pytest.approx(np.log(p[cold]), abs=1e-6)


def test_random_numbers_are_even_and_differ_by_seed_and_position():
    seeds = [*range(100), 2**64 - 1, 2**63 - 1]
    x = np.array([[random(np.uint64(seed), place) for place in range(200)] for seed in seeds])
    assert len(np.unique(x)) == x.size
    assert abs(x.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(x[:100, 0], np.arange(100))[0, 1]) < 0.3
    assert x.min() >= 0
    assert x.max() < 1
