"""Uniform quantisation: fewer bytes, the same FLOPs, an error that falls with the bits."""

import io

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.method.compress.clip import Clip  # noqa: E402
from isoflop.method.shrink import Data, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def task(net):
    data = Data((torch.randn(8, 16),), torch.zeros(8, 4))
    return Shrinking(net, Workload("toy", data, data, data, lambda o, t: -((o - t) ** 2).mean(1)))


def run(method, task):
    meter = Meter()
    return list(method.run(task.open("toy", meter, None, 0), meter, None))


def mlp():
    return nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))


def test_it_keeps_the_contract():
    check_method(Clip(bits=(3,)), task(mlp()))
    check_method(Clip(bits=(4,), granularity=32, symmetric=False), task(mlp()))


def test_bytes_follow_the_bits_and_the_outputs_drift_as_they_fall():
    whole = task(mlp())
    x = whole.workload.dev.inputs[0]
    found = run(Clip(bits=(8, 6, 4, 2)), whole)
    drift = [((s.module(x) - whole.module(x)) ** 2).mean().item() for s in found]
    assert drift == sorted(drift)
    assert drift[0] < 1e-3 * drift[-1]
    weights = sum(m.weight.numel() for m in whole.module if isinstance(m, nn.Linear))
    bits = [8 * (stored_bytes(s.module) - stored_bytes(found[-1].module)) / weights for s in found]
    assert bits == pytest.approx([6, 4, 2, 0], abs=0.01)


def test_it_saves_memory_and_not_flops():
    whole = task(mlp())
    (small,) = run(Clip(bits=(4,)), whole)
    costs = []
    for module in (whole.module, small.module):
        with OpMeter() as ops:
            module(whole.workload.dev.inputs[0])
        costs.append(ops)
    assert costs[1].flops == costs[0].flops
    assert costs[1].bytes_moved > costs[0].bytes_moved  # unpacking reads and writes what it unpacks
    assert stored_bytes(small.module) < 0.2 * stored_bytes(whole.module)


def test_weights_that_were_on_a_grid_before_are_flagged():
    net = mlp()
    for layer in (net[0], net[2]):
        layer.weight.data = layer.weight.data.sign() * 0.1
    assert "were on a grid" in run(Clip(bits=(4,)), task(net))[0].note
    assert "were on a grid" not in run(Clip(bits=(8,)), task(net))[0].note
    assert "were on a grid" not in run(Clip(bits=(4,)), task(mlp()))[0].note


def test_what_has_no_weights_or_is_packed_already_is_refused():
    with pytest.raises(Refused, match="no linear"):
        run(Clip(), task(nn.Sequential(nn.LayerNorm(16), nn.Flatten())))
    (small,) = run(Clip(bits=(4,)), task(mlp()))
    with pytest.raises(Refused, match="not packed"):
        run(Clip(), task(small.module))


def test_embeddings_can_be_left_as_they_are():
    net = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 16))
    ids = Data((torch.randint(0, 50, (4, 3)),), torch.zeros(4))
    job = Shrinking(net, Workload("toy", ids, ids, ids, lambda o, t: o.mean((1, 2))))
    kept, both = (run(Clip(bits=(4,), embeddings=e), job)[0].module for e in (False, True))
    assert torch.equal(kept[0].weight, net[0].weight)
    assert stored_bytes(both) < stored_bytes(kept) - 50 * 16 * 3
    file = io.BytesIO()
    torch.save(both, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(ids.inputs[0]), both(ids.inputs[0]))


def test_widths_are_checked_when_the_method_is_made():
    with pytest.raises(ValueError, match="bits=9"):
        Clip(bits=(9,))
