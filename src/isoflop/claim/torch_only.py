"""Claims whose comparison needs torch, listed where there is none."""

from __future__ import annotations

import importlib
from typing import Any

from isoflop.claim.base import CouldNotRunError, Finding
from isoflop.model.base import ModelError


def imported(module: str, extras: str = "torch,examples") -> Any:
    """A module that imports torch.

    Raises:
        CouldNotRunError: there is no torch, or another package of the extras.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CouldNotRunError(f"it needs {error.name}: pip install 'isoflop[{extras}]'") from error


def compared(module: str, *args: Any) -> list[Finding]:
    """What the `findings` of such a module returns.

    Raises:
        CouldNotRunError: a package or a model that it compares is missing.
    """
    try:
        return imported(module).findings(*args)
    except ModelError as error:
        raise CouldNotRunError(str(error)) from error
