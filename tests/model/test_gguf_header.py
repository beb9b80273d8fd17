"""The header's reader tells a model's shape, and what is wrong with a file."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.model.base import ModelError
from isoflop.model.gguf_header import read_header


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_shape_and_metadata_are_those_written(tiny, path):
    header = read_header(path)
    s = header.shape
    assert (s.n_layers, s.d_model, s.n_heads, s.n_kv_heads, s.head_dim, s.d_ff) == (2, 64, 2, 1, 32, 96)
    assert (s.tied, s.gated, s.vocab) == (True, True, len(tiny.metadata["tokenizer.ggml.tokens"]))
    assert s.params == sum(w.size for w in tiny.weights.values())
    assert header.weight_bytes == sum(w.size * (4 if w.ndim == 1 else 2) for w in tiny.weights.values())
    assert header.context_length == 160
    assert header.chat_template == tiny.metadata["tokenizer.chat_template"]


def test_tokens_that_end_an_answer_are_the_declared_and_the_customary(path):
    assert read_header(path).end_tokens == {0, 2}  # <|endoftext|> is not declared


def refusal(path, data: bytes) -> str:
    path = path.with_name("bad.gguf")
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        _ = read_header(path).shape
    assert caught.value.fatal
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_other_files_are_refused_by_what_they_begin_with(path):
    assert "not a GGUF file: it begins with b'PK\\x03\\x04'" in refusal(path, b"PK\3\4" + bytes(100))
    assert "begins with b''" in refusal(path, b"")
    assert "version 7" in refusal(path, b"GGUF" + struct.pack("<I", 7))
    assert "version 50331648" in refusal(path, b"GGUF" + struct.pack(">I", 3))  # big-endian


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.gguf: No such file"):
        read_header(tmp_path / "nowhere.gguf")


def test_a_file_cut_short_says_by_how_much(path):
    data = path.read_bytes()
    assert f"the file at {len(data) - 100:,}; fetch it again" in refusal(path, data[:-100])
    assert "its header goes past the end" in refusal(path, data[:300])


@given(st.data())
def test_no_cut_of_the_header_is_taken_for_a_model(path, data):
    whole = path.read_bytes()
    refusal(path, whole[: data.draw(st.integers(0, 8000))])


def test_absurd_counts_do_not_take_memory(path):
    absurd = b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60)
    assert "claims 1,152,921,504,606,846,976 metadata pairs" in refusal(path, absurd)


def test_a_file_without_a_language_model_says_what_is_missing(tiny, path):
    other = replace(tiny, metadata={**tiny.metadata, "general.architecture": "clip"})
    assert "does not say clip.embedding_length" in refusal(path, other.write(path.with_name("clip.gguf")).read_bytes())
