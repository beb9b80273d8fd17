"""Eight bits: how far from full precision, and that a model keeps its answers."""

from __future__ import annotations

import pytest
import torch

from isoflop.example.eight_bit import answered, in_eight_bits, ratio, speeds
from isoflop.method.compress.linears import ByteWeights
from isoflop.model.base import Request, Sampling
from isoflop.model.tiny import Tiny
from isoflop.model.tiny.decoder import Decoder, architecture_for

torch.set_num_threads(1)


def network():
    decoder = Decoder(architecture_for(33e3, "0123456789:\n", (":", "\n"), (8, 20)))
    decoder.initialise(0)
    torch.nn.init.normal_(decoder.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return decoder.eval()


def test_all_linear_layers_of_a_copy_are_eight_bits_and_the_model_is_left_alone():
    decoder = network()
    small = in_eight_bits(decoder)
    assert not any(isinstance(m, torch.nn.Linear) for m in small.modules())
    assert sum(isinstance(m, ByteWeights) for m in small.modules()) == 4 * decoder.architecture.layers + 1
    assert isinstance(decoder.head, torch.nn.Linear)


def test_greedy_answers_are_those_of_the_engine():
    decoder = network()
    prompts = ["1:", "23:", "4567:", "1234567:"]
    model = Tiny(decoder, "tiny:test", "digest", slots=16)
    wanted = [model.sample(Request(p, (0,), Sampling(temperature=0)))[0].text for p in prompts]
    assert answered(decoder, prompts) == wanted


def test_speeds_are_of_each_model_in_each_round():
    found = speeds([network(), network()], (torch.ones(4, 1, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long)), 2)
    assert [len(rounds) for rounds in found] == [2, 2]
    assert min(min(rounds) for rounds in found) > 0
    assert ratio([[1.0, 2.0, 4.0], [2.0, 2.0, 2.0]]) == pytest.approx(1.0)
