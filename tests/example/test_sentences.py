"""MiniLM is put together right: what is alike in meaning is near, and padding changes nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from isoflop.example import sentences  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.model.pull import absent  # noqa: E402

needs = pytest.mark.skipif(bool(absent("minilm", "shakespeare")), reason=absent("minilm", "shakespeare"))


@needs
def test_meaning_is_near_and_padding_is_nothing():
    model = sentences.build()
    said = ["How do I bake bread at home?", "What is the best way to make a loaf?", "The stock market fell sharply."]
    with torch.no_grad():
        long, short = (model(*sentences.tokenised(said, tokens)) for tokens in (32, 16))
        near, far = long[0] @ long[1], long[0] @ long[2]
    assert near > 0.5 > 0.2 > far
    assert torch.allclose(long, short, atol=1e-5)


@needs
def test_the_original_is_perfect_and_noise_is_not():
    work = sentences.workload(8)
    model = sentences.build()
    with torch.no_grad():
        assert work.quality(work.scores(model(*work.dev.inputs), work.dev)) == pytest.approx(1, abs=1e-5)
        model.layers[2].feed_forward[0].weight.mul_(0.5)
        assert work.quality(work.scores(model(*work.dev.inputs), work.dev)) < 0.99
    assert work.calibration.targets is None


@needs
def test_the_plays_are_sentences_and_different_ones():
    found = {play: set(sentences.sentences(play, 200)) for play in ("hamlet", "macbeth", "tempest")}
    assert all(len(s) == 200 for s in found.values())
    assert not found["hamlet"] & found["macbeth"]
    assert all(len(s.split()) >= 8 for play in found.values() for s in play)
    assert max(len(s) for play in found.values() for s in play) < 1000


def test_without_its_files_it_says_which_command_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for ask in (sentences.build, sentences.workload):
        with pytest.raises(ModelError, match="isoflop pull minilm"):
            ask()
