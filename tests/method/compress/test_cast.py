"""bf16 first, then int8 for growing sets of layers: what breaks under int8 comes last."""

import copy
import io
import warnings

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.method.compress.cast import Cast  # noqa: E402
from isoflop.method.compress.clip import Clip  # noqa: E402
from isoflop.method.compress.linears import ByteWeights, linear_kinds  # noqa: E402
from isoflop.method.shrink import Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402


class Fragile(nn.Module):
    """Its `narrow` layer sees a huge constant beside the signal, so that int8 activations lose the signal."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow, self.last = nn.Linear(16, 64), nn.Linear(65, 64), nn.Linear(64, 8)
        self.narrow.weight.data[:, -1] = 0

    def forward(self, x):
        x = torch.tanh(self.wide(x))
        return self.last(self.narrow(torch.cat([x, torch.full_like(x[..., :1], 5e3)], -1)))


def test_it_keeps_the_contract():
    check_method(Cast(), imitating(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(8, 16)))


def test_the_layer_that_int8_ruins_is_found_and_comes_last():
    whole = imitating(Fragile(), torch.randn(32, 16))
    half, light, *small = run(Cast(), whole)
    assert (half.note, light.note) == ("bf16", "bf16, weights in int8")
    assert small[1].note == "int8 without narrow"
    assert small[2].note == "int8"
    x, exact = whole.workload.dev.inputs[0], whole.workload.dev.targets
    errors = [((s.module(x) - exact) ** 2).mean().item() for s in small]
    assert errors[2] > 20 * errors[1]


def test_layers_are_tried_by_kind_where_there_are_many():
    blocks = nn.Sequential(*[nn.ModuleDict({"up": nn.Linear(4, 4), "down": nn.Linear(4, 4)}) for _ in range(8)])
    assert list(linear_kinds(blocks, 12)) == ["*.up", "*.down"]
    assert len(linear_kinds(blocks, 16)) == 16


def test_bytes_and_types():
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    x = torch.randn(4, 64)
    half, *_, small = run(Cast(), imitating(net, x))
    assert stored_bytes(half.module) == stored_bytes(net) / 2
    assert stored_bytes(small.module) < 0.35 * stored_bytes(net)
    costs = []
    for module in (net, half.module, small.module):
        with OpMeter() as ops:
            assert module(x).dtype == torch.float32
        costs.append(ops)
    assert costs[0].flops == costs[1].flops == costs[2].flops
    assert costs[2].bytes_moved < costs[1].bytes_moved < costs[0].bytes_moved


def test_a_model_in_bf16_is_not_cast_to_it_again_and_returns_its_own_type():
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8)).bfloat16()
    x = torch.randn(4, 16).bfloat16()
    found = run(Cast(), imitating(net, x))
    assert [s.note for s in found][-1] == "int8"
    assert "bf16" not in {s.note for s in found}
    assert all(s.module(x).dtype == torch.bfloat16 for s in found)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_keeps_working_and_can_be_saved(batch_first):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(3, 5, 16)
    for shrunk in run(Cast(), imitating(net, x)):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of the quantised tensors' storage
            assert (shrunk.module(x) - net(x)).abs().mean() < 0.05
            file = io.BytesIO()
            torch.save(copy.deepcopy(shrunk.module), file)
            file.seek(0)
            assert torch.equal(torch.load(file, weights_only=False)(x), shrunk.module(x))


@pytest.mark.parametrize("kernels", ["torchao", "torchao_weights"])
def test_torchao_does_the_same_with_its_own_kernels(kernels):
    pytest.importorskip("torchao")
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    x = torch.randn(4, 64)
    *_, small = run(Cast(kernels=kernels), imitating(net, x))
    assert (small.module(x) - net(x)).abs().max() < 0.05
    assert stored_bytes(small.module) < 0.4 * stored_bytes(net)
    file = io.BytesIO()
    torch.save(small.module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), small.module(x))


def test_a_model_without_linear_layers_gets_bf16_only_and_one_without_weights_nothing():
    convolution = imitating(nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten()), torch.randn(4, 2, 8))
    assert [s.note for s in run(Cast(), convolution)] == ["bf16"]
    with pytest.raises(Refused, match="no weights in float32"):
        run(Cast(), imitating(nn.Flatten(), torch.randn(4, 2, 8)))
    with pytest.raises(Refused, match="no linear layers for int8"):
        run(Cast(), imitating(nn.Conv1d(2, 4, 3).bfloat16(), torch.randn(4, 2, 8).bfloat16()))


def test_weights_alone_in_int8_are_a_byte_each_and_near_in_any_type():
    linear = nn.Linear(96, 40)
    light = ByteWeights(linear)
    x = torch.randn(2, 3, 96)
    exact = linear(x)
    assert stored_bytes(light) == 96 * 40 + 2 * 40 + 4 * 40
    for dtype in (torch.float32, torch.bfloat16):
        out = light(x.to(dtype))
        assert (out.dtype, out.shape) == (dtype, exact.shape)
        assert (out.float() - exact).norm() < 0.02 * exact.norm()
    with OpMeter() as ops:
        light(x)
    assert ops.flops == 2 * 6 * 96 * 40
    assert list(ops.by_op) == ["aten._weight_int8pack_mm"], ops.by_op


def test_many_rows_are_multiplied_as_a_matrix_and_give_the_same():
    linear = nn.Linear(96, 40)
    light, x = ByteWeights(linear), torch.randn(3, 64, 96)
    with torch.no_grad(), OpMeter() as ops:
        whole = light(x)
    assert ops.flops == 2 * 192 * 96 * 40
    assert "aten._weight_int8pack_mm" not in ops.by_op
    few = light(x.flatten(0, 1)).view(whole.shape)
    assert (whole - few).abs().max() < 0.02 * few.abs().max()
    graph = torch.export.export(light, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False).module()
    assert torch.equal(graph(x), whole)
    assert graph(x[:1]).shape == (1, 64, 40)


def test_weights_alone_stay_in_bf16_where_the_kernel_would_read_past_their_end():
    net = nn.Sequential(nn.Linear(16, 33), nn.ReLU(), nn.Linear(33, 4))
    _, light, *_ = run(Cast(), imitating(net, torch.randn(8, 16)))
    first, _, last = light.module.inner
    assert (type(first), type(last)) == (ByteWeights, nn.Linear)
    few = run(Cast(), imitating(nn.Sequential(nn.Linear(2, 5)), torch.randn(8, 2)))
    assert [s.note for s in few] == ["bf16", "int8"]


def test_layers_whose_weights_are_packed_already_are_left_as_they_are():
    net, x = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)), torch.randn(8, 16)
    clipped = run(Clip(bits=(4,)), imitating(net, x))[0].module
    notes = [s.note for s in run(Cast(), imitating(clipped, x))]
    assert notes == ["bf16"]
