"""Write a model so that three lines load it, in a process that never saw this one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from isoflop.method.shrink import Workload


def save(module: nn.Module, workload: Workload, folder: Path, what: str) -> Path:
    """Write it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(module, folder / "model.pt")
    return folder
