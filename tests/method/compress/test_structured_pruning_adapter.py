"""Adapters learn few numbers, bring a pruned model back, and leave nothing behind but weights."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

from tests.method.compress.toys import first, imitating  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.method.compress.structured_prune import StructuredPrune  # noqa: E402
from isoflop.method.compress.structured_pruning_adapter import Adapted, StructuredPruningAdapter  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


def test_it_keeps_the_contract():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    check_method(StructuredPruningAdapter(ratio=0.5, steps=1, batch=4), imitating(net, torch.randn(8, 4)))


def test_a_pruned_model_is_brought_back_by_few_numbers_at_the_cost_of_a_pruned_one():
    net = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
    whole = imitating(net, torch.randn(128, 32))
    x, exact = whole.workload.dev.inputs[0], whole.workload.dev.targets
    plain = first(StructuredPrune(ratio=0.5, steps=0), whole)
    adapted = first(StructuredPruningAdapter(ratio=0.5, rank=2, steps=150, rate=0.02), whole)
    errors = [((s.module(x) - exact) ** 2).mean().item() for s in (adapted, plain)]
    assert errors[0] < 0.5 * errors[1]
    assert float(adapted.note.split(", ")[-1].split("%")[0]) < 20
    assert not any(isinstance(m, Adapted) for m in adapted.module.modules())
    assert stored_bytes(adapted.module) == stored_bytes(plain.module)
    costs = []
    for s in (plain, adapted):
        with OpMeter() as ops:
            s.module(x)
        costs.append(ops.flops)
    assert costs[0] == costs[1]
    assert all(p.requires_grad for p in adapted.module.parameters())


@pytest.mark.parametrize("layer", [nn.Linear(6, 5), nn.Conv2d(6, 5, 3)])
def test_folding_changes_nothing(layer):
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 6, 4, 4)
    adapted = Adapted(layer, 2, torch.Generator().manual_seed(0))
    assert torch.equal(adapted(x), layer(x))
    adapted.b.data.normal_()
    before = adapted(x)
    assert torch.allclose(adapted.folded()(x), before, atol=1e-6)


def test_fields_are_checked():
    with pytest.raises(ValueError, match="rank=0"):
        StructuredPruningAdapter(rank=0)
