from pathlib import Path

import pytest
import torch

from isoflop.model.base import ModelError
from isoflop.model.tiny.decoder import Decoder, architecture_for
from isoflop.model.tiny.weights import SHIPPED, located, names, read, write


@pytest.fixture
def decoder():
    decoder = Decoder(architecture_for(33e3, "0123:\n", (":", "\n"), (12, 20)))
    decoder.initialise(3)
    return decoder


def test_what_is_written_is_read(decoder, tmp_path):
    name = write(decoder, "digits", tmp_path)
    found, digest = read(name, tmp_path)
    assert names(tmp_path) == [name] == ["digits-33k"]
    assert found.architecture == decoder.architecture
    assert all(torch.equal(x, y) for x, y in zip(found.parameters(), decoder.parameters(), strict=True))
    assert write(decoder, "digits", tmp_path) == name
    assert read(name, tmp_path)[1] == digest


def test_one_changed_bit_is_refused(decoder, tmp_path):
    name = write(decoder, "digits", tmp_path)
    path = tmp_path / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="corrupt"):
        read(name, tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match="missing"):
        read(name, tmp_path)


def test_an_unknown_name_lists_those_that_exist(decoder, tmp_path):
    write(decoder, "digits", tmp_path)
    with pytest.raises(ValueError, match=r"'digits-44k' in .*; there are digits-33k"):
        read("digits-44k", tmp_path)
    with pytest.raises(ValueError, match="there are none"):
        read("digits-44k", tmp_path / "empty")


def test_a_model_of_ones_own_is_named_by_its_folder(decoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = write(decoder, "digits", tmp_path / "mine")
    assert located("mine") == located(f"mine/{name}") == (name, Path("mine"))
    assert located(str(tmp_path / "mine")) == (name, tmp_path / "mine")
    (tmp_path / "chain-34k").mkdir()
    assert located("chain-34k") == ("chain-34k", SHIPPED)
    assert located("nothing") == ("nothing", SHIPPED)
    write(decoder, "figures", tmp_path / "mine")
    with pytest.raises(ValueError, match=r"mine/<model>; it holds digits-33k, figures-33k"):
        located("mine")
    with pytest.raises(ValueError, match="no tiny model 'none' in mine; there are digits-33k, figures-33k"):
        read(*located("mine/none"))


def test_the_shipped_weights_are_whole_small_and_have_a_card():
    assert {"chain-34k", "automata-33k"} <= set(names())
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 40e6
    for name in names():
        found, _ = read(name)
        assert name.endswith(f"-{round(found.architecture.shape.params / 1000)}k")
        card = (SHIPPED / f"{name}.md").read_text(encoding="utf-8")
        assert "pass@1" in card
        assert "FLOPs" in card
