"""The header of a GGUF file: what the model is, its shape, and whether the file is whole."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from isoflop.cost.decoder import DecoderShape
from isoflop.model.base import ModelError

# Scalar kinds of the format's metadata, by number (GGUF v2 and v3; ggml's docs/gguf.md).
_SCALARS = {
    code: struct.Struct(f"<{letter}")
    for code, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_STRING, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]

# Storage of a tensor's kind: numbers a block, bytes a block (ggml.h).
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2),
}  # fmt: skip

# Control tokens that end an answer, by the names that chat formats give them; files often declare only one of them.
_ENDS = frozenset({"</s>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>"})
_CONTROL = 3


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file.

    Args:
        name: as llama.cpp names it.
        shape: innermost dimension first.
        n_bytes: its storage (bytes), or None for a kind this reader does not know.
    """

    name: str
    shape: tuple[int, ...]
    n_bytes: int | None


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Args:
        path: the file.
        metadata: its key-value pairs.
        tensors: name, shape and size of each.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """The family of the model, such as `llama`."""
        return str(self._required("general.architecture"))

    @property
    def context_length(self) -> int:
        """The longest sequence it was made for (tokens)."""
        return int(self._required(f"{self.architecture}.context_length"))

    @property
    def chat_template(self) -> str:
        """The Jinja template of a conversation; empty for a base model."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def weight_bytes(self) -> int:
        """Storage of all tensors (bytes)."""
        return sum(t.n_bytes or 0 for t in self.tensors)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids of the tokens that end an answer: those declared, and control tokens that chat formats use for it."""
        declared = (self.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
        kinds = self.metadata.get("tokenizer.ggml.token_type", ())
        named = (
            i
            for i, (text, kind) in enumerate(zip(self._required("tokenizer.ggml.tokens"), kinds))
            if kind == _CONTROL and text in _ENDS
        )
        return frozenset({int(i) for i in declared if i is not None} | set(named))

    @property
    def shape(self) -> DecoderShape:
        """The decoder's shape.

        Raises:
            ModelError: the file does not say.
        """
        arch = self.architecture
        d_model = int(self._required(f"{arch}.embedding_length"))
        n_heads = int(self._required(f"{arch}.attention.head_count"))
        names = {t.name for t in self.tensors}
        return DecoderShape(
            n_layers=int(self._required(f"{arch}.block_count")),
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=int(self.metadata.get(f"{arch}.attention.head_count_kv", n_heads)),
            head_dim=int(self.metadata.get(f"{arch}.attention.key_length", d_model // n_heads)),
            d_ff=int(self._required(f"{arch}.feed_forward_length")),
            vocab=len(self._required("tokenizer.ggml.tokens")),
            tied="output.weight" not in names,
            gated="blk.0.ffn_gate.weight" in names,
        )

    def _required(self, key: str) -> Any:
        if key not in self.metadata:
            raise ModelError(
                f"{self.path} does not say {key}: not a language model, or one of another kind", fatal=True
            )
        return self.metadata[key]


def read_header(path: Path) -> GgufHeader:
    """Read a file's header and check that the file is as long as it says.

    Raises:
        ModelError: no such file, not GGUF, of a version or byte order not known, damaged, or cut short.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).header()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", fatal=True) from error


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = path.stat().st_size

    def header(self) -> GgufHeader:
        magic = self._file.read(4)
        if magic != b"GGUF":
            raise self._bad(f"is not a GGUF file: it begins with {magic!r}, not b'GGUF'")
        version = self._number(_U32)
        if version not in (2, 3):
            raise self._bad(f"is GGUF version {version}; this reads versions 2 and 3, little-endian")
        n_tensors, n_pairs = self._count("tensors"), self._count("metadata pairs")
        metadata: dict[str, Any] = {}
        for _ in range(n_pairs):
            key = self._string()
            metadata[key] = self._value(self._number(_U32))
        found = [self._tensor() for _ in range(n_tensors)]
        alignment = int(metadata.get("general.alignment", 32))
        if alignment < 1:
            raise self._bad(f"is damaged: general.alignment={alignment}")
        start = -(-self._file.tell() // alignment) * alignment
        for tensor, offset in found:
            end = start + offset + (tensor.n_bytes or 0)
            if end > self._size:
                raise self._bad(
                    f"is cut short: {tensor.name} ends at byte {end:,}, the file at {self._size:,}; fetch it again"
                )
        return GgufHeader(self._path, metadata, tuple(tensor for tensor, _ in found))

    def _tensor(self) -> tuple[Tensor, int]:
        name = self._string()
        n_dims = self._number(_U32)
        if n_dims > 8:
            raise self._bad(f"is damaged: tensor {name!r} has {n_dims} dimensions")
        shape = tuple(self._number(_U64) for _ in range(n_dims))
        block = _BLOCKS.get(self._number(_U32))
        n_bytes = None if block is None else prod(shape) // block[0] * block[1]
        return Tensor(name, shape, n_bytes), self._number(_U64)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item, count = self._number(_U32), self._count("array items")
            if item in _SCALARS:
                scalar = _SCALARS[item]
                return tuple(x for (x,) in scalar.iter_unpack(self._bytes(scalar.size * count)))
            return tuple(self._value(item) for _ in range(count))
        if kind not in _SCALARS:
            raise self._bad(f"is damaged: metadata of unknown kind {kind} at byte {self._file.tell():,}")
        return self._number(_SCALARS[kind])

    def _number(self, scalar: struct.Struct) -> Any:
        return scalar.unpack(self._bytes(scalar.size))[0]

    def _count(self, what: str) -> int:
        count = self._number(_U64)
        if count > self._size:  # each takes at least a byte
            raise self._bad(f"is damaged: it claims {count:,} {what} in {self._size:,} bytes")
        return count

    def _string(self) -> str:
        return self._bytes(self._count("characters")).decode("utf-8", errors="replace")

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._size else b""
        if len(data) < count:
            raise self._bad(f"is cut short: its header goes past the end at byte {self._size:,}; fetch it again")
        return data

    def _bad(self, what: str) -> ModelError:
        return ModelError(f"{self._path} {what}", fatal=True)
