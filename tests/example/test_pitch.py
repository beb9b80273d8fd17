"""CREPE is put together right, and its sound has the pitch it says."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from isoflop.cost.ops import OpMeter, stored_bytes  # noqa: E402
from isoflop.example import pitch  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.model.pull import absent  # noqa: E402

crepe = pytest.mark.skipif(bool(absent("crepe")), reason=absent("crepe"))


def test_sizes_and_flops_are_those_of_the_paper_s_networks():
    found = {}
    for size in ("tiny", "full"):
        model = pitch.network(size).eval()
        with torch.no_grad(), OpMeter() as ops:
            assert model(torch.randn(1, 1024)).shape == (1, 360)
        found[size] = (sum(p.numel() for p in model.parameters()), ops.flops / 1e6)
    assert found["tiny"] == (pytest.approx(0.487e6, rel=0.01), pytest.approx(73.6, abs=0.1))
    assert found["full"] == (pytest.approx(22.24e6, rel=0.01), pytest.approx(2820, abs=1))


def test_the_splits_are_apart_and_the_same_each_time():
    once, again = pitch.workload(40), pitch.workload(40)
    splits = [once.data(s).inputs[0] for s in ("calibration", "dev", "test")]
    assert len({x.sum().item() for x in splits}) == 3
    assert all(torch.equal(x, again.data(s).inputs[0]) for x, s in zip(splits, ("calibration", "dev", "test")))


def test_the_sound_has_the_pitch_it_says():
    """By autocorrelation, on frames with little noise."""
    data = pitch.sound(400, 5)
    period = pitch.RATE_HZ / (10 * 2 ** (data.targets / 1200))
    x = data.inputs[0] - data.inputs[0].mean(1, keepdim=True)
    spectrum = torch.fft.rfft(x, 2048).abs() ** 2
    correlation = torch.fft.irfft(spectrum)[:, :400] / (x**2).sum(1, keepdim=True)
    at = torch.arange(len(x))
    here = correlation[at, period.round().long()]
    beside = correlation[at, (period * 1.35).round().long()]
    clean = here > 0.3
    assert clean.float().mean() > 0.4
    assert (here - beside)[clean].mean() > 0.3


def test_a_pitch_counts_as_right_within_half_a_semitone():
    peak = torch.zeros(3, 360)
    peak[:, 100] = 1
    true = pitch.FIRST_CENTS + 2000.0 + torch.tensor([0.0, 49.0, 51.0])
    assert pitch.right(peak, true).tolist() == [1.0, 1.0, 0.0]
    assert pitch.loss(peak.clamp(0.01, 0.99), true)[()] > 0


@crepe
def test_the_pretrained_network_hears_a_clear_tone():
    t = torch.arange(1024) / pitch.RATE_HZ
    tones = torch.stack([sum(torch.sin(2 * torch.pi * k * f * t) / k for k in (1, 2, 3)) for f in (110.0, 440.0)])
    model = pitch.build("tiny")
    with torch.no_grad():
        heard = 10 * 2 ** (pitch.cents(model(tones)) / 1200)
    assert heard.tolist() == pytest.approx([110.0, 440.0], rel=0.01)
    assert stored_bytes(model) < 2.1e6


@crepe
def test_the_workload_is_neither_trivial_nor_hopeless():
    work = pitch.workload(200)
    with torch.no_grad():
        out = pitch.build("tiny")(work.dev.inputs[0])
    assert 0.55 < work.quality(work.scores(out, work.dev)) < 0.9


def test_without_its_files_it_says_which_command_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="isoflop pull crepe"):
        pitch.build("tiny")
