"""int4 for the layers that bear it, int8 for the others: in the order of what each loses, and refused elsewhere."""

import copy
import io
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from tests.method.compress.toys import imitating, run  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.method.compress.cast import Cast  # noqa: E402
from isoflop.method.compress.linears import ByteWeights, NibbleWeights  # noqa: E402
from isoflop.method.compress.weight_only import WeightOnly  # noqa: E402
from isoflop.method.shrink import Refused  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

if not NibbleWeights.is_fast():
    pytest.skip("this processor has no fast kernel of int4 weights", allow_module_level=True)


class Fragile(nn.Module):
    """Each group of `narrow` has one huge weight that reads nothing, so that the 16 levels miss all others."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow, self.last = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 16)
        self.wide.weight.data[::32], self.wide.bias.data[::32] = 0, 0
        self.narrow.weight.data[:, ::32] = 20

    def forward(self, x):
        return self.last(self.narrow(torch.tanh(self.wide(x))))


def test_it_keeps_the_contract():
    check_method(
        WeightOnly(), imitating(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16)), torch.randn(8, 32))
    )


def test_the_layer_that_int4_ruins_is_found_and_stays_in_int8_to_the_last():
    whole = imitating(Fragile(), torch.randn(64, 32))
    first, without, every = run(WeightOnly(), whole)
    assert first.note.startswith("weights in int4, in int8 in ")
    assert without.note == "weights in int4, in int8 in narrow"
    assert every.note == "weights in int4"
    assert type(without.module.narrow) is ByteWeights
    assert type(without.module.wide) is type(without.module.last) is NibbleWeights
    x, exact = whole.workload.dev.inputs[0], whole.workload.dev.targets
    errors = [((s.module(x) - exact) ** 2).mean().item() for s in (without, every)]
    assert errors[1] > 3 * errors[0]


def test_weights_on_a_grid_of_16_levels_are_exact_and_the_note_says_that_they_were():
    linear = nn.Linear(64, 48)
    scale, low = torch.randint(1, 9, (48, 2, 1)) / 64, torch.randint(-16, 1, (48, 2, 1)) / 4
    codes = torch.randint(0, 16, (48, 2, 32))
    codes[..., :2] = torch.tensor([0, 15])  # so that the range is that of the grid
    linear.weight.data = (codes * scale + low).flatten(1)
    assert torch.equal(NibbleWeights.rounded(linear).weight, linear.weight)
    (found,) = run(WeightOnly(), imitating(nn.Sequential(linear), torch.randn(8, 64)))
    assert found.note == "weights in int4 (in 16 levels before)"
    (found,) = run(WeightOnly(), imitating(nn.Sequential(nn.Linear(64, 48)), torch.randn(8, 64)))
    assert found.note == "weights in int4"


@pytest.mark.parametrize("rows", [16, 48, 80])
def test_the_kernel_computes_what_its_rounded_weights_would_in_any_type(rows):
    linear = nn.Linear(96, rows)
    light, plain, x = NibbleWeights(linear), NibbleWeights.rounded(linear), torch.randn(2, 3, 96)
    assert stored_bytes(light) == rows * 96 / 2 + 4 * rows * 3 + 4 * rows
    with torch.no_grad():
        exact = plain(x.bfloat16().float())
        for dtype in (torch.float32, torch.bfloat16):
            out = copy.deepcopy(light).to(dtype)(x.to(dtype))
            assert (out.dtype, out.shape) == (dtype, exact.shape)
            assert (out.float() - exact).norm() < 0.01 * exact.norm()
    with OpMeter() as ops:
        light(x)
    assert ops.flops == 2 * 6 * 96 * rows
    assert (plain.weight - linear.weight).abs().max() < 0.55 * (linear.weight.amax() - linear.weight.amin()) / 15


def test_it_saves_loads_and_composes_with_bf16():
    net, x = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)), torch.randn(4, 64)
    half, *_ = run(Cast(), imitating(net, x))
    *_, found = run(WeightOnly(), imitating(half.module, x))
    assert [type(m) for m in found.module.inner[::2]] == [NibbleWeights, NibbleWeights]
    file = io.BytesIO()
    torch.save(copy.deepcopy(found.module), file)
    file.seek(0)
    with torch.no_grad():
        assert torch.equal(torch.load(file, weights_only=False)(x), found.module(x))


def test_another_processor_refuses_what_lies_in_this_ones_order(tmp_path):
    light = NibbleWeights(nn.Linear(32, 64))
    torch.save(light, tmp_path / "light.pt")
    other = "avx2" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "default"
    code = f"import torch; torch.load({str(tmp_path / 'light.pt')!r}, weights_only=False)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ATEN_CPU_CAPABILITY": other}, capture_output=True, text=True
    )
    assert "make the model again here" in done.stderr
    with pytest.raises(Exception, match="a graph would not refuse another"):
        torch.export.export(light, (torch.randn(2, 32),), strict=False)


def test_it_is_refused_where_no_shape_or_processor_fits(monkeypatch):
    with pytest.raises(Refused, match="multiple of 32 columns"):
        run(WeightOnly(), imitating(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(4, 16)))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(Refused, match="AVX2 or AVX512 only"):
        run(WeightOnly(), imitating(nn.Linear(32, 16), torch.randn(4, 32)))
