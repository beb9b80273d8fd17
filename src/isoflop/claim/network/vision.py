"""A small vision transformer and a small state space model of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoflop.method.conditional.selective_ssm import SsmBlock

PATCH = 4  # pixels on a side


class Patches(nn.Module):
    """Images [B, 1, H, H] to tokens [B, T, D] of squares of 4 by 4 pixels, with their places."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, width, PATCH, PATCH)
        self.place = nn.Parameter(0.1 * torch.randn((side // PATCH) ** 2, width))

    def forward(self, images: Tensor) -> Tensor:
        """Cut and place."""
        return self.cut(images).flatten(2).transpose(1, 2) + self.place


class Mean(nn.Module):
    """[B, T, D] to [B, D]."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean over tokens."""
        return x.mean(1)


class Block(nn.Module):
    """Attention and a feed-forward network, each of the normalised tokens and added to them."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        seen: Any = self.norms[0](x)
        # As a call with gradients, so that PyTorch's fused kernel, which hides its parts, is not taken.
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        return x + self.feed_forward(self.norms[1](x))


def transformer(side: int = 28, width: int = 48, depth: int = 3, inner: int = 192, heads: int = 3) -> nn.Sequential:
    """Images to logits by attention."""
    blocks = [Block(width, heads, inner) for _ in range(depth)]
    return nn.Sequential(Patches(side, width), *blocks, nn.LayerNorm(width), Mean(), nn.Linear(width, 10))


def state_space(width: int = 24, inner: int = 48, depth: int = 4, states: int = 4) -> nn.Sequential:
    """Images to logits by scans over their patches, row by row."""
    chain = nn.Sequential(*(SsmBlock(width, inner, states) for _ in range(depth)))
    return nn.Sequential(Patches(28, width), chain, nn.LayerNorm(width), Mean(), nn.Linear(width, 10))
