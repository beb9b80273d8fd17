"""Laws by name: each a file of this folder."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from isoflop.law.base import Law

_CLASS = re.compile(r"^class (\w+)\(Law\)", re.MULTILINE)


def names() -> dict[str, str]:
    """The laws and the class behind each, found by listing the folder; nothing is imported."""
    found: dict[str, str] = {}
    folder = Path(__file__).parent
    for module in pkgutil.iter_modules([str(folder)]):
        for name in _CLASS.findall((folder / f"{module.name}.py").read_text(encoding="utf-8")):
            if re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() == module.name:
                found[module.name] = name
    return found


def law_class(name: str) -> type[Law]:
    """The class behind a name.

    Raises:
        ValueError: no such law; the message lists those that exist.
    """
    known = names()
    if name not in known:
        raise ValueError(f"unknown law {name!r}; there are {', '.join(known)}")
    return getattr(importlib.import_module(f"isoflop.law.{name}"), known[name])


def law(name: str, **fields: Any) -> Law:
    """The law called `name`, with its fields set.

    Raises:
        ValueError: no such law; the message lists those that exist.
        TypeError: a field that it does not have.

    >>> law("chinchilla").inputs
    ('params', 'tokens')
    """
    return law_class(name)(**fields)
