"""The commands that list the parts of a search, generated from their classes: `methods`, `allocators`."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast, get_type_hints

import typer

import isoflop.method
from isoflop.cli.screen import err, out, put_json
from isoflop.cli.show import JsonOption
from isoflop.method.base import Method, Part, parts
from isoflop.run.allocate.base import Allocator

NameArgument = Annotated[str | None, typer.Argument(help="Tell all about this one.", show_default=False)]
FamilyOption = Annotated[
    list[str] | None, typer.Option(metavar="FAMILY", help="Only these: search, compress, ...; may be repeated.")
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")]
_EXTRAS = {"torch": "shrink", "torchao": "shrink", "torch_pruning": "shrink"}


def methods(
    name: NameArgument = None,
    family: FamilyOption = None,
    json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """List the methods: paper, cost and law of each."""
    if unknown := set(family or ()) - set(all_families()):
        raise ValueError(f"unknown family {', '.join(sorted(unknown))}; known are {', '.join(all_families())}")
    found = all_methods(family)
    if name is not None:
        _tell(found, "method", name)
    elif json:
        put_json([_facts(method) for method in found.values()])
    elif markdown:
        print(markdown_table(found))
    else:
        for method in found.values():
            out.print(f"{method.label()}: {first_line(method)}", style="bold", soft_wrap=True)
            for what, fact in _facts(method).items():
                if fact and what not in ("name", "what"):
                    out.print(f"  {what:7}{fact}", soft_wrap=True)


def allocators(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the allocators: which problem to work on next."""
    found = parts(Allocator, "isoflop.run.allocate")
    if name is not None:
        _tell(found, "allocator", name)
    elif json:
        put_json([{"name": label, "what": first_line(part), "fields": _fields(part)} for label, part in found.items()])
    else:
        for label, part in sorted(found.items()):
            out.print(f"{label}: {first_line(part)}", style="bold", soft_wrap=True)
            if fields := _fields(part):
                out.print(f"  fields {fields}", soft_wrap=True)


def all_methods(families: Sequence[str] | None = None) -> dict[str, type[Method[Any, Any]]]:
    """The methods of all families, or of some, by name; those of a family that needs a missing package are left out."""
    found: dict[str, type[Method[Any, Any]]] = {}
    for family in families or all_families():
        try:
            found |= parts(cast("type[Method[Any, Any]]", Method), f"isoflop.method.{family}")
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            err.print(f"{family}: needs {error.name}: pip install 'isoflop[{_EXTRAS[error.name]}]'", soft_wrap=True)
    return dict(sorted(found.items()))


def all_families() -> list[str]:
    """The folders of methods."""
    return [family.name for family in pkgutil.iter_modules(isoflop.method.__path__) if family.ispkg]


def markdown_table(found: Mapping[str, type[Method[Any, Any]]]) -> str:
    """The methods as a Markdown table."""
    rows = ["| method | what it does | cost | buys | paper |", "|---|---|---|---|---|"]
    for label, method in found.items():
        cells = (f"`{label}`", first_line(method), method.cost, method.buys, method.source)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _tell(found: Mapping[str, type[Part]], kind: str, name: str) -> None:
    if name not in found:
        raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(sorted(found))}")
    part = found[name]
    out.print(f"{name}({_fields(part)})", style="bold", soft_wrap=True)
    out.print(inspect.getdoc(part) or "", soft_wrap=True)


def _facts(method: type[Method[Any, Any]]) -> dict[str, str]:
    return {
        "name": method.label(),
        "what": first_line(method),
        "paper": method.source,
        "cost": method.cost,
        "buys": method.buys,
        "fields": _fields(method),
    }


def first_line(thing: type) -> str:
    """What a class is, by its docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".")


def _fields(part: type[Part]) -> str:
    """The fields with their defaults; where a field takes a part, the others it takes."""
    words: list[str] = []
    types = get_type_hints(part)
    for f in dataclasses.fields(part):  # pyright: ignore[reportArgumentType] - concrete parts are dataclasses
        kind, default, others = types[f.name], cast(object, f.default), ""
        if isinstance(kind, type) and issubclass(kind, Part):
            known = parts(kind, kind.__module__.rpartition(".")[0])
            others = f" (or {', '.join(sorted(n for n in known if not isinstance(default, known[n])))})"
        words.append((f.name if default is dataclasses.MISSING else f"{f.name}={default}") + others)
    return ", ".join(words)
