"""Packed weights take the bytes they claim and compute as their unpacked values would."""

import copy
import io

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from isoflop.cost.ops import stored_bytes  # noqa: E402
from isoflop.method.compress.grid import Grid  # noqa: E402
from isoflop.method.compress.packed import (  # noqa: E402
    Packed,
    on_a_grid,
    pack,
    pack_all,
    sites,
    unpack,
    with_packed,
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def packed(model, bits=8):
    return with_packed(model, pack_all(sites(model), Grid(bits).of))


@given(st.integers(1, 8), st.data())
def test_codes_come_back_from_as_many_bits_as_they_need(bits, data):
    codes = torch.tensor(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=70)), dtype=torch.uint8)
    held = pack(codes, bits)
    assert torch.equal(unpack(held, bits, len(codes)), codes)
    assert len(held) <= len(codes) * bits / 8 + 3


class Tagger(nn.Module):
    """Embedding, attention, recurrence and a last layer that shares the embedding's table."""

    def __init__(self):
        super().__init__()
        self.table, self.last = nn.Embedding(40, 16), nn.Linear(16, 40, bias=False)
        self.last.weight = self.table.weight
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.lstm, self.cell = nn.LSTM(16, 16, batch_first=True), nn.GRUCell(16, 16)

    def forward(self, ids):
        x, _ = self.lstm(self.encoder(self.table(ids)))
        return self.last(x + self.cell(x[:, 0])[:, None])


def test_any_layer_computes_as_with_its_unpacked_values():
    ids = torch.randint(0, 40, (3, 5))
    model = Tagger().eval()
    small = packed(copy.deepcopy(model)).eval()
    plain = copy.deepcopy(model)
    for site in sites(model):
        getattr(plain.get_submodule(site.owner), site.name).data = Grid(8).pack(site.weight)()
    with torch.no_grad():
        assert torch.allclose(small(ids), plain(ids), atol=1e-6)
        assert (small(ids) - model(ids)).abs().max() < 0.2 * model(ids).std()


def test_a_shared_table_is_packed_once_and_bytes_are_a_quarter():
    model = Tagger().eval()
    small = packed(copy.deepcopy(model))
    assert small.table.weights["weight"] is small.last.weights["weight"]
    weights = {s.weight.data_ptr(): s.weight for s in sites(model)}
    rows = sum(len(w) for w in weights.values())
    codes = sum(w.numel() for w in weights.values())
    vectors = stored_bytes(model) - 4 * codes
    assert stored_bytes(small) == codes + 2 * rows + vectors + len(weights)  # codes, scales, biases, one zero each


def test_it_survives_saving_casting_and_copying():
    small = packed(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 4)).eval())
    x = torch.randn(2, 3, 6, 6)
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again(x), small(x))
    assert copy.deepcopy(small).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert small[2].weight.shape == (4, 128)
    assert small[2].in_features == 128
    assert not sites(small)


def test_a_model_that_is_one_layer_is_wrapped_itself():
    assert isinstance(packed(nn.Linear(16, 16)), Packed)


def test_weights_that_come_from_a_4_bit_file_are_recognised():
    layer = nn.Linear(256, 64)
    assert not on_a_grid(sites(layer))
    assert not on_a_grid(sites(layer.bfloat16().float()))
    blocks = layer.weight.data.view(-1, 32)
    low, step = blocks.amin(1, True), (blocks.amax(1, True) - blocks.amin(1, True)) / 15
    layer.weight.data = (((blocks - low) / step).round() * step + low).view(64, 256)
    assert on_a_grid(sites(layer))
