"""Models by name: `<kind>:<rest>`, each kind a file of this folder."""

from __future__ import annotations

import importlib
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

from isoflop.model.base import LM, ModelError

_CLASS = re.compile(r"^class (\w+)\(LM\)", re.MULTILINE)


def kinds() -> dict[str, str]:
    """The kinds of model and the class behind each, found by listing the folder; nothing is imported."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        spec = find_spec(f"isoflop.model.{module.name}")
        if spec and spec.origin:
            for name in _CLASS.findall(Path(spec.origin).read_text(encoding="utf-8")):
                if name.lower() == module.name:
                    found[module.name] = name
    return found


def load_class(kind: str) -> type[LM]:
    """The class of a kind.

    Raises:
        ValueError: no such kind; the message lists those that exist.
        ModelError: its extra is not installed.
    """
    known = kinds()
    if kind not in known:
        raise ValueError(f"unknown kind of model {kind!r}; write <kind>:<which> with a kind out of {', '.join(known)}")
    try:
        return getattr(importlib.import_module(f"isoflop.model.{kind}"), known[kind])
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("isoflop"):
            raise
        raise ModelError(f"a {kind} model needs {error.name}: pip install 'isoflop[{kind}]'", fatal=True) from error


def load(specification: str) -> LM:
    """Open the model that `specification` names, such as `mock:p=0.3` or `gguf:smollm2-135m`.

    Raises:
        ValueError: no such kind; the message lists those that exist.
        ModelError: the model cannot be used, or its extra is not installed.
    """
    kind, _, rest = specification.partition(":")
    return load_class(kind).open(rest)
