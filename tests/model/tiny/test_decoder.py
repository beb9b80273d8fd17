import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isoflop.model.tiny.decoder import Decoder, architecture_for

ROOM = (12, 20)


def small(seed=0, params=33e3):
    decoder = Decoder(architecture_for(params, "0123:\n", (":", "\n"), ROOM))
    decoder.initialise(seed)
    torch.nn.init.normal_(decoder.head.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return decoder


@pytest.mark.parametrize("params", [33e3, 400e3])
def test_parameters_and_flops_are_those_that_torch_counts(params):
    decoder = small(params=params)
    a = decoder.architecture
    assert sum(p.numel() for p in decoder.parameters()) == a.shape.params
    assert abs(a.shape.params / params - 1) < 0.2
    B, T = 3, 9
    # the counter does not know the fused attention, only the plain one that it replaces
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder(torch.ones(B, T, dtype=torch.long), torch.arange(T).expand(B, T))
    # torch counts attention to all T keys, hidden ones too; a causal one attends to (T + 1) / 2 on average
    hidden = 4 * a.layers * a.width * (T * T - T * (T + 1) // 2)
    assert counter.get_total_flops() == B * (a.shape.flops(T, logits=T) + hidden)


def test_a_token_depends_on_those_before_it_only():
    decoder = small()
    tokens = torch.tensor([[1, 2, 3, 4, 1]])
    positions = torch.arange(5)[None]
    changed = tokens.clone()
    changed[0, 4] = 2
    with torch.inference_mode():
        a, b = decoder(tokens, positions), decoder(changed, positions)
    assert torch.equal(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4], b[:, 4])


def test_only_distances_between_positions_matter():
    decoder = small()
    tokens = torch.tensor([[1, 2, 3, 4, 1]])
    with torch.inference_mode():
        a, b = decoder(tokens, torch.arange(5)[None]), decoder(tokens, torch.arange(7, 12)[None])
        c = decoder(tokens, torch.tensor([[0, 1, 2, 9, 10]]))
    assert torch.allclose(a, b, atol=1e-5)
    assert not torch.allclose(a, c, atol=1e-3)


def test_a_prompts_end_and_the_response_stand_at_the_same_positions_after_every_prompt():
    a = small().architecture
    assert a.positions("01:2") == [0, 1, 11, 12]
    assert a.positions("01230:23") == [0, 1, 2, 3, 4, 11, 12, 13]
    assert a.positions("012") == [0, 1, 2]
    assert a.decode(a.encode("01:2\n")) == "01:2\n"
    with pytest.raises(ValueError, match="'x' at place 1"):
        a.encode("0x")
