"""Operators that do little are dropped first, and what they cost is no longer spent."""

import io

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import flops, imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.ld_pruner import LdPruner, droppable  # noqa: E402
from isoflop.method.shrink import Data, Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


class Block(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.inner[2].weight.data *= size
        self.inner[2].bias.data *= size

    def forward(self, x):
        return x + self.inner(x)


def stack(*sizes, width=16):
    return nn.Sequential(*[Block(width, s) for s in sizes], nn.Linear(width, 4))


def test_it_keeps_the_contract():
    check_method(LdPruner(drops=2, operators=4, steps=1, batch=4), imitating(stack(1, 0.1), torch.randn(8, 16)))


def test_what_does_least_goes_first_and_its_cost_with_it():
    net, x = stack(3, 0, 2, 0.1), torch.randn(64, 16)
    found = run(LdPruner(drops=3), imitating(net, x))
    first = [s.note.removeprefix("without ").split(", ")[-1].split(".")[0] for s in found]
    assert first == ["1", "3", "2"]
    assert torch.allclose(found[0].module(x), net(x), atol=1e-6)
    spent = [flops(s.module, x) for s in (*found,)]
    assert flops(net, x) > spent[0] > spent[1] > spent[2]
    assert stored_bytes(found[0].module) < stored_bytes(net)
    file = io.BytesIO()
    torch.save(found[2].module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x[:3]), found[2].module(x[:3]))


def test_a_branch_goes_to_nothing_and_a_block_to_its_input():
    method, net, x = LdPruner(), stack(0, 2), torch.randn(32, 16)
    whole = imitating(net, x)
    scores = method.scores(whole.open("toy", Meter(), None, 0), ["0", "0.inner"], Data((x,)))
    assert scores["0"] == (pytest.approx(0, abs=1e-5), False)
    assert scores["0.inner"] == (pytest.approx(0, abs=1e-5), True)


def test_only_modules_that_keep_their_shape_and_cost_something_count():
    assert set(droppable(stack(1).eval(), Data((torch.randn(2, 16),)))) == {"0", "0.inner", "0.inner.0", "0.inner.2"}


def test_a_module_that_is_called_twice_is_left():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.once = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.once(self.layer(self.layer(x)))

    assert set(droppable(Twice(), Data((torch.randn(2, 4),)))) == {"once"}


def test_training_wins_back_what_a_drop_costs():
    whole = imitating(stack(1, 1, 1), torch.randn(128, 16))
    x, exact = whole.workload.dev.inputs[0], whole.workload.dev.targets
    errors = [
        ((run(LdPruner(drops=1, steps=n, rate=0.003), whole)[0].module(x) - exact) ** 2).mean().item() for n in (0, 100)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_a_model_of_which_nothing_can_go_is_refused():
    with pytest.raises(Refused, match="returns the shape"):
        run(LdPruner(), imitating(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.randn(4, 4)))
