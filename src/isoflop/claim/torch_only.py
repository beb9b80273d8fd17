"""Claims whose comparison needs torch, listed where there is none."""

from __future__ import annotations

import importlib
from typing import Any

from isoflop.claim.base import CouldNotRunError


def imported(module: str) -> Any:
    """A module that imports torch.

    Raises:
        CouldNotRunError: there is no torch, or another package of the examples.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CouldNotRunError(f"it needs {error.name}: pip install 'isoflop[torch,examples]'") from error
