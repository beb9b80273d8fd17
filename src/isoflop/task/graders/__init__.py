"""Graders, one a file; a file here is a grader that rows can name. Other packages add theirs as entry points."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from isoflop.task.base import Grader


@cache
def grader_names() -> tuple[str, ...]:
    """The graders there are, in alphabetical order."""
    files = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(files | {entry.name for entry in entry_points(group="isoflop.graders")}))


@cache
def grader_class(name: str) -> type[Grader]:
    """The grader of a name.

    Raises:
        ValueError: there is none; the message lists those that exist.
    """
    if name not in grader_names():
        raise ValueError(f"unknown grader {name!r}; there are {', '.join(grader_names())}")
    for entry in entry_points(group="isoflop.graders", name=name):
        return entry.load()
    return getattr(importlib.import_module(f"{__name__}.{name}"), name.capitalize())
