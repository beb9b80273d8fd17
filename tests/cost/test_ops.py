"""What operators are counted as, against closed forms and PyTorch's own counter."""

import math
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from isoflop.cost import Budget, BudgetExhausted, Meter  # noqa: E402
from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402

B, T, D = 2, 5, 16


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def counted(module, *inputs):
    module.eval()
    with torch.no_grad(), OpMeter() as ops:
        module(*inputs)
    return ops


def test_linear_layers_count_as_their_closed_form():
    ops = counted(nn.Linear(D, 8), torch.randn(B, T, D))
    assert ops.flops == 2 * B * T * D * 8
    assert ops.bytes_moved == 4 * (B * T * D + D * 8 + 8 + B * T * 8)


def test_training_agrees_with_pytorchs_counter():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    x = torch.randn(B, 1, 8, 8)
    with FlopCounterMode(display=False) as theirs:
        net(x).sum().backward()
    with OpMeter() as ours:
        net(x).sum().backward()
    assert ours.flops == theirs.get_total_flops() > 0


def test_what_pytorchs_counter_misses_counts_as_its_parts_do():
    x = torch.randn(B, T, D)
    attention = nn.MultiheadAttention(D, 2, batch_first=True)
    fused = counted(attention, x, x, x)
    assert fused.flops == 2 * B * T * D * 4 * D + 4 * B * T * T * D
    layer = nn.TransformerEncoderLayer(D, 2, 32, batch_first=True)
    assert counted(layer, x).flops == fused.flops + 4 * B * T * D * 32
    q = torch.randn(B, 2, T, 8)
    with OpMeter() as ops:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert ops.flops == 4 * B * 2 * T * T * 8
    lstm = nn.LSTM(D, 8, batch_first=True)
    assert counted(lstm, x).flops == 2 * B * T * 4 * 8 * (D + 8)
    gru = nn.GRU(D, 8, batch_first=True)
    assert counted(gru, x).flops == 2 * B * T * 3 * 8 * (D + 8)


def test_inference_mode_and_no_grad_count_alike():
    x, net = torch.randn(B, T, D), nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.LSTM(D, 4, batch_first=True))
    plain = counted(net, x)
    with torch.inference_mode(), OpMeter() as ops:
        net(x)
    assert ops.flops == plain.flops


def test_operators_of_unknown_size_make_the_count_unknown():
    @torch.library.custom_op("isoflop_test::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    with OpMeter() as ops:
        opaque(torch.ones(3))
    assert math.isnan(ops.flops)


def test_a_gather_moves_what_it_returns_and_a_view_nothing():
    table = nn.Embedding(1000, D)
    assert counted(table, torch.tensor([1, 2, 3])).bytes_moved == 2 * 4 * 3 * D
    with OpMeter() as ops:
        torch.ones(4, 4).t()[:2].view(2, 4)
    assert ops.bytes_moved == 4 * 16  # of the ones alone


def test_an_optimisers_step_is_known():
    net = nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    with OpMeter() as ops:
        net(torch.ones(4, 3)).sum().backward()
        optimiser.step()
    assert ops.flops == 2 * 2 * 4 * 3 * 2  # forward, and the weights' gradient


def test_an_operator_that_returns_nothing_moves_what_it_writes():
    net = nn.Linear(30, 40, bias=False)
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    net.weight.grad = torch.ones(40, 30)
    optimiser.step()
    with OpMeter() as ops:
        optimiser.step()
    # The weight, two moments and the gradient are read and, as torch has it, written; and the count of steps is read.
    assert ops.bytes_moved == pytest.approx(8 * 40 * 30 * 4, rel=0.01)


def test_what_was_there_before_is_not_allocated():
    net = nn.Linear(30, 40)
    x = torch.randn(2, 30)
    with OpMeter() as ops, torch.no_grad():
        net(x)
        net.weight.mul_(2)
    assert ops.peak_bytes == 2 * 40 * 4


def test_peak_memory_is_what_lives_at_once():
    x = torch.ones(1000)
    with OpMeter() as ops:
        y = x * 2
        for _ in range(5):
            y = y * 2
    assert ops.peak_bytes == 2 * 4000  # the new one before the old one goes
    with OpMeter() as ops:
        kept = [x * 2 for _ in range(5)]
    assert ops.peak_bytes == 4000 * len(kept)


def test_a_budget_stops_before_the_operator_that_would_exceed_it():
    a = torch.ones(10, 10)
    meter = Meter([Budget("flops", 5000)])
    with pytest.raises(BudgetExhausted), OpMeter(meter, "train"):
        a @ a @ a @ a  # 2000 each
    assert meter.spent.flops == 4000
    assert set(meter.by_role) == {"train"}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_int8_kernels_are_stopped_before_they_run_too():
    weight = torch.quantize_per_channel(
        torch.randn(8, D), torch.ones(8), torch.zeros(8, dtype=torch.long), 0, torch.qint8
    )
    products = 2 * B * D * 8

    def run(meter):
        with OpMeter(meter):
            packed = torch.ops.quantized.linear_prepack(weight, None)
            torch.ops.quantized.linear_dynamic(torch.randn(B, D), packed, reduce_range=True)

    free = Meter()
    run(free)
    assert free.spent.flops == products
    for budget in (Budget("flops", products - 1), Budget("bytes_moved", free.spent.bytes_moved - 1)):
        meter = Meter([budget])
        with pytest.raises(BudgetExhausted):
            run(meter)
        assert meter.spent[budget.axis] <= budget.limit


def test_all_that_was_spent_is_charged():
    meter = Meter()
    with OpMeter(meter, "verify") as ops:
        torch.ones(3, 4) @ torch.ones(4, 5)
    assert meter.spent == ops.cost
    assert meter.spent.flops == 120
    assert meter.spent.wall_s > 0


def test_stored_bytes_count_shared_weights_once_and_quantised_ones_as_packed():
    net = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    net[1].weight = net[0].weight
    assert stored_bytes(net) == 4 * 64 * 64


def test_stored_bytes_count_every_quantised_layer():
    """Unpacked weights are copies that live for a moment; two of them must not pass for one."""
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, all_three = (torch.ao.quantization.quantize_dynamic(n, {nn.Linear}) for n in (net[:1], net))
    assert stored_bytes(all_three) == 3 * stored_bytes(one)
