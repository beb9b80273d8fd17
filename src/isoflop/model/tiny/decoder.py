"""The network of the tiny models: a plain decoder, whole on one page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost.decoder import DecoderShape

PAD = 0
"""The token that fills rows up; it is no character and never predicted."""


@final
@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that fixes the network but its weights.

    Args:
        alphabet: the characters, one token each, from id 1 on; id 0 is padding.
        prompt_end: the character that ends a prompt. It stands at position `prompt_room` - 1 whatever the prompt's
            length, so that an operand and the step that uses it are as far apart in short problems as in long ones.
        response_end: the character that ends a response, and with it the generation.
        prompt_room: positions kept for the prompt (count).
        context: the most positions, prompt and response (count).
        width: D.
        layers: blocks (count).
        heads: query heads (count).
        kv_heads: key and value heads, each shared by `heads / kv_heads` query heads (count).
        hidden: width of the gated feed-forward layer.
        rope_base: wavelengths of the rotary positions span 2 pi to 2 pi times this (positions).
    """

    alphabet: str
    prompt_end: str
    response_end: str
    prompt_room: int
    context: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    rope_base: float = 100.0

    @property
    def vocabulary(self) -> int:
        """V: the characters and padding."""
        return len(self.alphabet) + 1

    @property
    def end(self) -> int:
        """The token that ends a response."""
        return self.alphabet.index(self.response_end) + 1

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def shape(self) -> DecoderShape:
        """What parameters and costs follow from."""
        return DecoderShape(
            n_layers=self.layers,
            d_model=self.width,
            n_heads=self.heads,
            n_kv_heads=self.kv_heads,
            head_dim=self.head_width,
            d_ff=self.hidden,
            vocab=self.vocabulary,
            tied=False,
        )

    def encode(self, text: str) -> list[int]:
        """The token of each character.

        Raises:
            ValueError: a character that the model does not have.
        """
        ids = [self.alphabet.find(c) + 1 for c in text]
        if PAD in ids:
            raise ValueError(
                f"the character {text[ids.index(PAD)]!r} at place {ids.index(PAD)} is not in the model's alphabet "
                f"{self.alphabet!r}"
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of tokens; padding has none."""
        return "".join([self.alphabet[i - 1] for i in ids if i != PAD])

    def positions(self, text: str) -> list[int]:
        """The position of each character: counted from 0, but the prompt's end just before `prompt_room`."""
        end = text.find(self.prompt_end)
        if end < 0:
            return [*range(len(text))]
        return [*range(end), *range(self.prompt_room - 1, self.prompt_room - 1 + len(text) - end)]


class Norm(nn.Module):
    """Divide by the root mean square over the width, then scale (RMSNorm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def rotation(architecture: Architecture) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, each [context, head_width]."""
    half = architecture.head_width // 2
    frequencies = architecture.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(architecture.context, dtype=torch.float64)[:, None] * frequencies
    angles = torch.cat([angles, angles], -1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + half) of the last axis by the angles of their position (RoPE)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Block(nn.Module):
    """Grouped-query attention and a gated feed-forward layer (SwiGLU), each on the normed stream and added to it."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.a = a
        self.norm_attention, self.norm_forward = Norm(a.width), Norm(a.width)
        self.qkv = nn.Linear(a.width, a.head_width * (a.heads + 2 * a.kv_heads), bias=False)
        self.out = nn.Linear(a.width, a.width, bias=False)
        self.gate_up = nn.Linear(a.width, 2 * a.hidden, bias=False)
        self.down = nn.Linear(a.hidden, a.width, bias=False)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] to rotated queries [B, heads, T, head_width], rotated keys and values [B, kv_heads, T, ...]."""
        B, T, _ = x.shape
        a = self.a
        qkv = self.qkv(self.norm_attention(x)).view(B, T, a.heads + 2 * a.kv_heads, a.head_width).transpose(1, 2)
        q, k, v = qkv.split([a.heads, a.kv_heads, a.kv_heads], 1)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """The stream [B, T, D] after what attention gathered [B, T, D] and the feed-forward layer are added."""
        x = x + self.out(attended)
        gate, up = self.gate_up(self.norm_forward(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], each position seeing those before it."""
        q, k, v = self.heads(x, cos, sin)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.after(x, y.transpose(1, 2).flatten(2))


class Decoder(nn.Module):
    """Tokens in, logits out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embedding = nn.Embedding(architecture.vocabulary, architecture.width)
        self.blocks = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        self.norm = Norm(architecture.width)
        self.head = nn.Linear(architecture.width, architecture.vocabulary, bias=False)
        cos, sin = rotation(architecture)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initialise(self, seed: int) -> None:
        """Draw the weights: variance 1/fan-in, the projections back into the stream damped by the depth."""
        random = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 if "embedding" in name else weight.shape[1] ** -0.5
                damped = name.endswith(("out.weight", "down.weight"))
                std *= (2 * self.architecture.layers) ** -0.5 if damped else 1.0
                nn.init.normal_(weight, std=std if "head" not in name else 0.0, generator=random)

    def stream(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens and their positions, both [B, T], to the last block's normed output [B, T, D]."""
        x = self.embedding(tokens)
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens and their positions, both [B, T], to logits [B, T, V]."""
        return self.head(self.stream(tokens, positions))


def architecture_for(parameters: float, alphabet: str, ends: tuple[str, str], room: tuple[int, int]) -> Architecture:
    """The network nearest to a number of parameters, among those 16 or a multiple of 32 wide.

    Heads are 16 wide, keys and values have half as many (one for a single head), and depth grows with width:
    3 blocks to 64, 4 above.

    Args:
        parameters: wanted (count).
        alphabet: the characters.
        ends: the characters that end a prompt and a response.
        room: the longest prompt and the longest response (characters).
    """

    def of(width: int) -> Architecture:
        heads = width // 16
        return Architecture(
            alphabet=alphabet,
            prompt_end=ends[0],
            response_end=ends[1],
            prompt_room=room[0],
            context=sum(room),
            width=width,
            layers=3 if width <= 64 else 4,
            heads=heads,
            kv_heads=max(heads // 2, 1),
            hidden=width * 5 // 2,
        )

    return min((of(width) for width in (16, *range(32, 513, 32))), key=lambda a: abs(a.shape.params - parameters))
