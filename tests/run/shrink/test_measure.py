"""What a use costs is counted example by example where it differs, and once where it does not."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from tests.run.shrink.toys import MIDDLE, WHOLE, D, Gate, build, data, task  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import Meter  # noqa: E402
from isoflop.method.shrink import Data, Workload, WorkloadError  # noqa: E402
from isoflop.run.shrink.measure import measure, refuse_unusable  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_a_static_module_costs_the_same_on_every_example():
    net, meter = build(), Meter()
    found = measure(net, task(), data(100, 5), meter)
    weights = sum(p.numel() * 4 for p in net.parameters())
    assert set(found.flops) == {WHOLE}
    assert set(found.peak_bytes) == {found.peak_bytes[0]}
    assert weights < found.peak_bytes[0] < weights + 4000
    assert 0.8 < found.scores.mean() < 1
    assert meter.by_role["verify"].flops < 120 * WHOLE


def test_a_conditional_module_is_counted_on_every_example():
    some = data(50, 5)
    meter = Meter()
    found = measure(Gate(build()), task(), some, meter)
    easy = (some.inputs[0][:, 0] > 0).numpy()
    assert (found.flops == np.where(easy, WHOLE - MIDDLE, WHOLE)).all()
    second = WHOLE if easy[0] else WHOLE - MIDDLE  # the way that the first example did not go, counted once more
    assert meter.by_role["verify"].flops == 2 * found.flops.sum() + second
    assert (found.scores == measure(build(), task(), some, Meter()).scores).all()


class Crowd(nn.Module):
    """Its answers depend on what else is in the batch."""

    def forward(self, x):
        return x[:, :4] - x.max()


def test_where_a_use_is_not_an_example_what_it_costs_is_counted_on_uses():
    """Two uses of a gate, one of which skips a layer: as many of either among the examples."""
    some, uses = data(50, 5), torch.zeros(2, D)
    uses[0, 0] = 1.0
    wl = replace(task(), use=Data((uses,)))
    gated, whole = (measure(net, wl, some, Meter()) for net in (Gate(build()), build()))
    assert sorted(gated.flops) == [WHOLE - MIDDLE] * 25 + [WHOLE] * 25
    assert set(whole.flops) == {WHOLE}
    assert (gated.scores == whole.scores).all()
    with pytest.raises(WorkloadError, match="cannot be called on its use data"):
        refuse_unusable(build(), replace(task(), use=Data((torch.zeros(2, 3),))))


def test_answers_that_depend_on_the_batch_are_computed_alone():
    some = data(20, 5)
    wl = Workload("toy", some, some, some, lambda out, t: out[:, 0])
    alone = some.inputs[0][:, 0] - some.inputs[0].amax(dim=1)
    assert measure(Crowd(), wl, some, Meter()).scores == pytest.approx(alone.numpy(), abs=1e-6)


def test_a_model_that_cannot_be_used_is_refused_with_the_reason():
    assert refuse_unusable(build().train(), task()).training is False
    with pytest.raises(WorkloadError, match="the model is a int; it must be a torch.nn.Module"):
        refuse_unusable(3, task())
    broken = build()
    broken[1].weight.data[0, 0] = float("nan")
    with pytest.raises(WorkloadError, match=r"weight 1\.weight has 1 values of 4096 that are NaN"):
        refuse_unusable(broken, task())
    with pytest.raises(WorkloadError, match=rf"cannot be called on its calibration data \(\[2, {D}\] float32\): Runt"):
        refuse_unusable(nn.Linear(3, 4), task())
    some = data(4, 0)
    with pytest.raises(WorkloadError, match="the original's scores on dev data are not all finite"):
        refuse_unusable(build(), Workload("toy", some, some, some, lambda out, t: out[:, 0] * float("nan")))
    with pytest.raises(WorkloadError, match="the score raised ZeroDivisionError"):
        refuse_unusable(build(), Workload("toy", some, some, some, lambda out, t: 1 / 0))
