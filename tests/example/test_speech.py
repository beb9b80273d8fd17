"""Silero's detector is put together right, hears a stream as it hears a clip, and takes our voices for speech."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from isoflop.example import speech  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.model.pull import absent  # noqa: E402

needs = pytest.mark.skipif(bool(absent("silero-vad")), reason=absent("silero-vad"))


@needs
def test_frame_by_frame_is_the_same_as_all_at_once():
    model, data = speech.build(), speech.clips(3, 7)
    with torch.no_grad():
        whole = model(data.inputs[0])
        state, heard = None, []
        for frame in data.inputs[0].split(speech.FRAME, 1):
            told, state = model.forward_step(frame, state)
            heard.append(told)
    assert torch.allclose(whole, torch.stack(heard, 1), atol=1e-6)


@needs
def test_the_first_waves_are_a_fourier_transform():
    """The package keeps the transform as weights: cosines above sines, under a window."""
    waves = speech.build().spectrum.waves.weight.detach().squeeze(1)
    t = torch.arange(256) / 256
    window = waves[0]
    assert torch.allclose(waves[5], window * torch.cos(2 * torch.pi * 5 * t), atol=1e-5)
    assert torch.allclose(waves[129 + 5].abs(), (window * torch.sin(2 * torch.pi * 5 * t)).abs(), atol=1e-5)


@needs
def test_voices_are_told_from_noise():
    work = speech.workload(20)
    with torch.no_grad():
        told = speech.build()(work.dev.inputs[0])
    assert 0.8 < work.quality(work.scores(told, work.dev)) < 0.99
    spoken = work.dev.targets
    assert told[spoken == 1].mean() > 0.8 > 0.4 > told[spoken == 0].mean()


def test_frames_at_an_edge_do_not_count():
    spoken = torch.tensor([[0.0, 0.5, 1.0, 1.0]])
    assert speech.right(torch.tensor([[0.9, 0.1, 0.9, 0.1]]), spoken).tolist() == [pytest.approx(1 / 3)]


def test_the_clips_are_the_same_each_time_and_apart():
    a, b, c = speech.clips(2, 1), speech.clips(2, 1), speech.clips(2, 2)
    assert torch.equal(a.inputs[0], b.inputs[0])
    assert not torch.equal(a.inputs[0], c.inputs[0])


def test_without_its_files_it_says_which_command_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="isoflop pull silero-vad"):
        speech.build()
