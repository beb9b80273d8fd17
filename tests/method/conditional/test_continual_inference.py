"""The step form equals the window form, by the library of the paper's author as well, and costs one output a layer."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost import FREE, Meter  # noqa: E402
from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.method.conditional.continual_inference import (  # noqa: E402
    Continual,
    ContinualInference,
    Latest,
    Sliding,
    in_steps,
)
from isoflop.method.shrink import Data, Original, Refused, Shrinking, Workload  # noqa: E402
from isoflop.testing import check_method  # noqa: E402

C = 3


@pytest.fixture(autouse=True)
def _still():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Turn(nn.Module):
    per_step = True

    def forward(self, x):
        return x.transpose(1, 2)


def convolutional(layers=2, kernel=3, width=4):
    convs = [part for i in range(layers) for part in (nn.Conv1d(C if not i else width, width, kernel), nn.ReLU())]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 2))


def attentive(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=norm_first)
    return nn.Sequential(Turn(), nn.Linear(C, 8), layer, Latest())


def conv(*shape, **more):
    return nn.Conv1d(C, 4, *shape, **more)


NETWORKS = {
    "convolutions": (convolutional(), 9, 1),
    "dilated": (nn.Sequential(conv(3, dilation=3), nn.Conv1d(4, 2, 2), nn.Flatten()), 8, 1),
    "strided": (nn.Sequential(conv(3, stride=2), nn.MaxPool1d(2, 2), nn.Conv1d(4, 2, 2), nn.Flatten()), 9, 4),
    "nested": (nn.Sequential(nn.Sequential(conv(1), nn.AvgPool1d(3, 1)), nn.BatchNorm1d(4), nn.Flatten()), 3, 1),
    "attention": (attentive(norm_first=False), 6, 1),
    "norm first": (attentive(norm_first=True), 6, 1),
}
REFUSED = {
    "no stream": convolutional(),
    r"network\.0 \(Conv1d\) pads over time": Sliding(nn.Sequential(conv(3, padding=1), nn.Flatten()), 5),
    r"network\.1 \(LSTM\) starts anew": Sliding(nn.Sequential(Turn(), nn.LSTM(C, 4)), 5),
    "not known to treat each moment": Sliding(nn.Sequential(conv(3), nn.GroupNorm(2, 4), nn.Flatten()), 5),
    "stride over 2 samples and the window over 1": Sliding(nn.Sequential(conv(3, stride=2), nn.Flatten()), 3),
    "only one output over time": Sliding(nn.Sequential(conv(1), nn.AdaptiveAvgPool1d(2), nn.Flatten()), 4),
    "puts the 3 moments": Sliding(nn.Sequential(conv(3), nn.Flatten(), nn.Linear(12, 2)), 5),
}


def workload(net, streams=3, length=14):
    inputs = (torch.randn(streams, C, length),)
    with torch.no_grad():
        targets = net(*inputs)
    data = Data(inputs, targets)
    return Workload("stream", data, data, data, lambda out, t: -((out - t) ** 2).flatten(1).mean(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_step_by_step_is_the_same_as_window_by_window(name):
    network, window, hop = NETWORKS[name]
    sliding = Sliding(network, window, hop).eval()
    stream = torch.randn(2, C, 25)
    continual = in_steps(sliding, stream.shape).eval()
    with torch.no_grad():
        ours, theirs = continual(stream), sliding(stream)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-6


def test_over_space_as_well():
    sliding = Sliding(
        nn.Sequential(nn.Conv2d(C, 4, (3, 3), padding=(0, 1)), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), 5
    ).eval()
    stream = torch.randn(2, C, 9, 6)
    with torch.no_grad():
        assert (in_steps(sliding, stream.shape)(stream) - sliding(stream)).abs().max() < 1e-6


def test_the_library_of_the_papers_says_the_same():
    co = pytest.importorskip("continual")
    convs = [nn.Conv1d(C, 4, 3), nn.Conv1d(4, 4, 5), nn.Conv1d(4, 2, 3)]
    oracle = co.Sequential(*(co.convert.continual(conv) for conv in convs)).eval()
    sliding = Sliding(nn.Sequential(*convs, nn.Flatten()), 9).eval()
    stream = torch.randn(2, C, 20)
    with torch.no_grad():
        theirs = oracle.forward_steps(stream)
        ours = in_steps(sliding, stream.shape)(stream)
    assert (ours.transpose(1, 2) - theirs).abs().max() < 1e-6


def test_a_step_costs_one_output_a_layer():
    """Four layers of kernel 9: 25 + 17 + 9 + 1 outputs in a window, 4 in a step, 13 times fewer."""
    width = 8
    network = nn.Sequential(*(nn.Conv1d(width, width, 9, bias=False) for _ in range(4)), nn.Flatten())
    sliding = Sliding(network, 33).eval()
    continual = in_steps(sliding, torch.Size([1, width, 40]))
    stream, state = torch.randn(1, width, 40), None
    one = 2 * 9 * width * width
    with torch.no_grad():
        with OpMeter() as window:
            sliding(stream[:, :, :33])
        for sample in stream.unbind(2):
            with OpMeter() as step:
                _, state = continual.forward_step(sample, state)
    assert window.flops == 52 * one
    assert step.flops == 4 * one
    assert window.flops / step.flops == 13


def test_it_keeps_the_contract_and_what_it_yields_can_be_kept():
    sliding = Sliding(convolutional(), 9)
    task = Shrinking(sliding, workload(sliding.eval()))
    check_method(ContinualInference(), task)
    (shrunk,) = ContinualInference().run(task.open("stream", Meter(), None, 0), Meter(), np.random.default_rng(0))
    file = io.BytesIO()
    torch.save(shrunk.module, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    stream = torch.randn(4, C, 12)
    with torch.no_grad():
        assert torch.equal(again(stream), shrunk.module(stream))
        assert (again(stream) - sliding(stream)).abs().max() < 1e-6


def test_inside_a_larger_module():
    net = nn.Sequential(nn.Conv1d(C, C, 1), Sliding(convolutional(), 9)).eval()
    (shrunk,) = ContinualInference().run(Original(net, workload(net), Meter(), net), Meter(), np.random.default_rng(0))
    assert isinstance(shrunk.module[1], Continual)


@pytest.mark.parametrize("why", REFUSED)
def test_what_has_no_step_form_is_refused_before_anything_is_spent(why):
    net = REFUSED[why]
    data = Data((torch.randn(2, C, 9),), torch.zeros(2))
    meter = Meter()
    work = Workload("stream", data, data, data, lambda out, t: t)
    with pytest.raises(Refused, match=why):
        next(ContinualInference().run(Original(net.eval(), work, meter, net), meter, np.random.default_rng(0)))
    assert meter.spent == FREE


def test_a_layer_that_says_it_treats_moments_alone_and_does_not_is_found_out():
    class Lies(nn.Module):
        per_step = True

        def forward(self, x):
            return x - x.mean(2, keepdim=True)

    net = Sliding(nn.Sequential(Lies(), nn.Conv1d(C, 2, 3), nn.Flatten()), 3).eval()
    with pytest.raises(Refused, match="mixes moments"):
        next(ContinualInference().run(Original(net, workload(net), Meter(), net), Meter(), np.random.default_rng(0)))
