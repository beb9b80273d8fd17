"""Modules get smaller, FLOPs fall, and what cannot be pruned is refused."""

import copy
import io
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

from tests.method.compress.toys import first, flops, imitating, run  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from isoflop.cost import Budget, BudgetExhausted, Meter  # noqa: E402
from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.channels import pruned  # noqa: E402
from isoflop.method.compress.structured_prune import StructuredPrune  # noqa: E402
from isoflop.method.shrink import Data, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


class Redundant(nn.Module):
    """Half of its hidden neurons do nothing."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 4)
        self.idle = torch.randperm(32)[:16]
        self.down.weight.data[:, self.idle] = 0

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Mixed(nn.Module):
    """Convolutions with a skip, attention with a skip, and an MLP with a skip."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, padding=1),
        )
        self.project, self.attend = nn.Linear(8, 32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.up, self.down, self.last = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(x)))
        h = self.project((h + self.second(h)).flatten(2).transpose(1, 2))
        h = h + self.attend(h, h, h, need_weights=False)[0]
        return self.last((h + self.down(torch.relu(self.up(h)))).mean(1))


def test_it_keeps_the_contract():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    check_method(StructuredPrune(ratio=0.5, steps=1, batch=4), imitating(net, torch.randn(8, 8)))


def test_neurons_that_do_nothing_go_first_and_nothing_is_lost():
    whole = imitating(Redundant(), torch.randn(64, 8))
    smaller = first(StructuredPrune(ratio=0.5, steps=0), whole)
    assert smaller.module.up.weight.shape == (16, 8)
    assert smaller.module.down.weight.shape == (4, 16)
    x = whole.workload.dev.inputs[0]
    assert torch.allclose(smaller.module(x), whole.module(x), atol=1e-5)
    assert flops(smaller.module, x) == flops(whole.module, x) / 2


@pytest.mark.parametrize("flops", [1e5, 3e5, 1e6, 2e6, 3e6, 4e6])
def test_a_budget_that_ends_while_channels_are_looked_for_is_told_as_one(flops):
    whole, meter = imitating(Mixed(), torch.randn(8, 1, 6, 6)), Meter([Budget("flops", flops)])
    with pytest.raises(BudgetExhausted):
        next(StructuredPrune(steps=0).run(whole.open("toy", meter, None, 0), meter, None))


def test_a_curve_that_was_cut_off_goes_on_to_the_same_models():
    whole, meter = imitating(Mixed(), torch.randn(8, 1, 6, 6)), Meter()
    every = run(StructuredPrune(steps=0), whole)
    for at in (0, 2):
        problem = replace(whole.open("toy", meter, None, 0), begun=every[at].module)
        rest = list(StructuredPrune(steps=0).run(problem, meter, None))
        assert [s.note for s in rest] == [s.note for s in every[at + 1 :]]


def test_convolutions_attention_and_mlp_all_shrink_as_torch_pruning_alone_shrinks_them():
    net, x = Mixed(), torch.randn(8, 1, 6, 6)
    whole = imitating(net, x)
    found = run(StructuredPrune(ratio=0.5**0.5, steps=0), whole)
    ratios = [flops(s.module, x) / flops(net, x) for s in found]
    assert ratios[1] < ratios[0] < 0.75
    assert ratios[1] < 0.4
    half = found[1].module
    assert half.attend.embed_dim == 16
    assert half.up.weight.shape == (32, 16)
    assert stored_bytes(half) < 0.35 * stored_bytes(net)
    for batch in (1, 5):
        assert half(x[:batch]).shape == (batch, 10)
    file = io.BytesIO()
    torch.save(half, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), half(x))


def test_training_wins_back_part_of_what_a_cut_costs():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
    whole = imitating(net, torch.randn(128, 8))
    x, exact = whole.workload.dev.inputs[0], whole.workload.dev.targets
    errors = [
        ((first(StructuredPrune(ratio=0.5, steps=n, rate=0.01), whole).module(x) - exact) ** 2).mean().item()
        for n in (0, 150)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_a_loss_is_used_where_there_is_one():
    labels = torch.randint(0, 4, (64,))
    net, data = Redundant(), Data((torch.randn(64, 8),), labels)
    work = Workload("toy", data, data, data, lambda o, t: (o.argmax(1) == t).float(), loss=cross_entropy)
    smaller = first(StructuredPrune(ratio=0.5, steps=0), Shrinking(copy.deepcopy(net), work))
    assert torch.allclose(smaller.module(data.inputs[0]), net(data.inputs[0]), atol=1e-5)


class Written(nn.Module):
    """Its hidden size is written into its forward pass."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.down(self.up(x).view(-1, 4, 8).flatten(1))


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (nn.Linear(8, 4), "without changing what the model returns"),
        (Written(), "without changing what the model returns"),
        (nn.LayerNorm(8), "no linear, convolution or attention"),
    ],
)
def test_what_cannot_shrink_is_refused_and_not_returned_as_it_was(net, says):
    with pytest.raises(Refused, match=says):
        run(StructuredPrune(), imitating(net, torch.randn(8, 8)))


def test_cuts_go_on_until_one_channel_is_left_and_every_one_lowers_the_flops():
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4))
    found = run(StructuredPrune(ratio=0.8, steps=0), imitating(net, torch.randn(16, 8)))
    widths = [(s.module[0].out_features, s.module[2].out_features) for s in found]
    assert widths == [(10, 5), (8, 4), (6, 3), (5, 2), (4, 2), (3, 2), (3, 1), (2, 1), (1, 1)]


def test_each_cut_starts_from_what_the_one_before_was_trained_to():
    """Without training, what a second cut keeps it has in common with the first."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    first, second = run(StructuredPrune(ratio=0.5, steps=0), imitating(net, torch.randn(32, 8)))[:2]
    rows = {tuple(row) for row in first.module[0].weight.tolist()}
    assert {tuple(row) for row in second.module[0].weight.tolist()} < rows


def test_norms_hold_the_statistics_of_the_data_after_the_training():
    """And not those of the last few batches, nor those of the original's wider layers."""
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    whole = imitating(net, torch.randn(64, 8) + 1)
    smaller = first(StructuredPrune(ratio=0.5, steps=5, rate=0.05, batch=8), whole).module
    seen = smaller[0](whole.workload.calibration.inputs[0])
    assert torch.allclose(smaller[1].running_mean, seen.mean(0), atol=1e-5)
    assert torch.allclose(smaller[1].running_var, seen.var(0), atol=1e-5)
    assert not any(m.training for m in smaller.modules())


def test_whole_heads_are_kept():
    """A fifth less of 32 is no multiple of four heads; what is added to attention keeps in step with it."""
    net, x = Mixed(), torch.randn(8, 1, 6, 6)
    for s in run(StructuredPrune(ratio=0.8, steps=0), imitating(net, x)):
        assert s.module.attend.embed_dim % 4 == 0
        assert s.module.project.out_features == s.module.attend.embed_dim
        assert s.module(x).shape == (8, 10)


def test_a_cut_that_removes_nothing_gives_nothing():
    whole = imitating(Redundant(), torch.randn(8, 8))
    assert pruned(whole.open("toy", Meter(), None, 0), whole.module, [], 0.5) is None


def test_the_ratio_is_checked():
    with pytest.raises(ValueError, match="between 0 and 1"):
        StructuredPrune(ratio=1.5)
