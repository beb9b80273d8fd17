"""Blocks are found by watching a model run."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoflop.method.conditional.blocks import find_chain, find_chains, walk  # noqa: E402
from isoflop.method.shrink import Conditional, Refused  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Odd(nn.Module):
    """Two lists in order, one out of order, and one called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.deep = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(4))
        self.backwards = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.twice = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.deep:
            x = block(x)
        for block in reversed(self.backwards):
            x = block(x)
        for block in [*self.twice, *self.twice]:
            x = block(x)
        return self.head(x)


X = (torch.ones(1, 4),)


def test_the_longest_list_that_runs_in_order_is_found_with_its_cost():
    chain = find_chain(Odd(), X)
    assert chain.blocks == tuple(f"deep.{i}" for i in range(4))
    assert chain.flops == (128.0,) * 4
    assert chain.total == 2 * (4 * 8 + 8 * 8 * (4 + 6 + 10) + 8 * 2)


def test_blocks_can_be_named():
    assert find_chain(Odd(), X, "stem deep.2 head").flops == (64.0, 128.0, 32.0)
    assert find_chain(Odd(), X, "deep").blocks[-1] == "deep.3"
    with pytest.raises(Refused, match="no submodule 'dep'; it has stem, deep"):
        find_chain(Odd(), X, "dep")
    with pytest.raises(Refused, match="'head stem' do not each run once and in order"):
        find_chain(Odd(), X, "head stem")


def test_models_without_blocks_and_conditional_ones_are_refused():
    with pytest.raises(Refused, match="no list of blocks"):
        find_chain(nn.Linear(4, 2), X)

    class Fickle(Conditional):
        pass

    with pytest.raises(Refused, match="conditional already"):
        find_chain(nn.Sequential(Fickle(), nn.Linear(4, 2)), X)


def test_places_belong_to_blocks_that_spend_and_are_spread_over_the_cost():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 64))
    chain = find_chain(net, X)
    assert [chain.blocks[i] for i in chain.places(9)] == ["2", "4"]
    deep = find_chain(nn.Sequential(*[nn.Linear(4, 4) for _ in range(12)]), X)
    assert deep.places(3) == [2, 5, 8]


def test_encoder_and_decoder_are_two_chains():
    net = nn.Transformer(8, 2, 3, 2, 16, batch_first=True).eval()
    x = torch.randn(1, 5, 8)
    names = [chain.blocks[0] for chain in find_chains(net, (x, x))]
    assert names == ["encoder.layers.0", "decoder.layers.0"]
    assert [len(chain.blocks) for chain in find_chains(net, (x, x), "decoder.layers encoder.layers")] == [2, 3]


def test_a_walk_that_is_ended_computes_nothing_more_and_leaves_no_hooks():
    net = Odd()
    ran = []
    for i, block in enumerate(net.deep):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    assert walk(net, ["deep.1"], X, lambda before, after: True) is None
    assert ran == [0, 1]
    assert torch.equal(walk(net, ["deep.1"], X, lambda before, after: False), net(*X))
    assert len(net.deep[1]._forward_hooks) == 1
