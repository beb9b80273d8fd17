"""A selective state space layer in plain PyTorch, whose state can be carried over tokens that are left out."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelectiveSsm(nn.Module):
    """A diagonal selective scan (Gu & Dao 2023, Mamba) without its short convolution and fused kernel.

    For each channel, h <- exp(dt A) h + dt B u and y = C h + D u, with dt, B and C from the token itself.

    Args:
        width: D, of a token.
        inner: channels of the scan (count).
        states: N, of each channel (count).
    """

    def __init__(self, width: int, inner: int, states: int = 8) -> None:
        super().__init__()
        self.into = nn.Linear(width, 2 * inner)
        self.selects = nn.Linear(inner, 2 * states)
        self.step = nn.Linear(inner, inner)
        self.rates = nn.Parameter(torch.arange(1, states + 1).float().log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, width)
        self.register_buffer("usual_step", torch.full((inner,), 0.05))
        with torch.no_grad():  # steps from 0.01 to 0.1, log-uniform, as Mamba has them
            dt = torch.exp(torch.linspace(math.log(0.01), math.log(0.1), inner))
            self.step.weight.mul_(0.1)
            self.step.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: Tensor, left_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens to tokens, and the scan's outputs, which tell how much each token matters.

        Args:
            x: tokens [B, T, D].
            left_out: how many tokens were left out just before each of these [B, T]; the state runs on over them by
                the usual step of each channel, as if their input had been nothing. None: none were.
        """
        u, gate = self.into(x).chunk(2, 2)
        u = functional.silu(u)
        y = self.scan(u, left_out)
        return self.out(y * functional.silu(gate)), y

    def scan(self, u: Tensor, left_out: Tensor | None = None) -> Tensor:
        """The recurrence over u [B, T, I]: y [B, T, I]."""
        dt = functional.softplus(self.step(u))
        b, c = self.selects(u).chunk(2, 2)
        decay_rate = -self.rates.exp()
        decay = torch.exp(dt.unsqueeze(3) * decay_rate)
        if left_out is not None:
            usual = cast(Tensor, self.usual_step)[:, None] * decay_rate
            decay = decay * torch.exp(left_out[:, :, None, None] * usual)
        driven = (dt * u).unsqueeze(3) * b.unsqueeze(2)
        h = u.new_zeros(len(u), u.shape[2], b.shape[2])
        states: list[Tensor] = []
        for kept, new in zip(decay.unbind(1), driven.unbind(1)):
            h = kept * h + new
            states.append(h)
        y = torch.einsum("btin,btn->bti", torch.stack(states, 1), c)
        return y + self.skip * u


class SsmBlock(nn.Module):
    """A selective scan of the normalised tokens, added to them: [B, T, D] to [B, T, D]."""

    def __init__(self, width: int, inner: int, states: int = 8) -> None:
        super().__init__()
        self.norm, self.ssm = nn.LayerNorm(width), SelectiveSsm(width, inner, states)

    def forward(self, x: Tensor) -> Tensor:
        """One block over all tokens."""
        return self.scored(x)[0]

    def scored(self, x: Tensor, left_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One block, and how much each token matters [B, T]: the mean of its scan's outputs above zero."""
        mixed, y = self.ssm(self.norm(x), left_out)
        return x + mixed, y.clamp_min(0).mean(2)
