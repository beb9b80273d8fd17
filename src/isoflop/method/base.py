"""The contract between what spends compute and what runs it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from inspect import isabstract
from typing import ClassVar, Generic, TypeVar, cast, get_type_hints

import numpy as np

from isoflop.cost import Meter
from isoflop.model.base import Ask
from isoflop.task.base import Split

P = TypeVar("P")
S = TypeVar("S")
PartT = TypeVar("PartT", bound="Part")


class Part:
    """A piece of a method with hyper-parameters: a frozen, stateless dataclass that can be written and read back.

    It is written as its name and those of its fields that differ from their defaults, `best_of_n(n=64, value=oracle)`.
    The file is the name in snake case; parts of the same kind lie in one folder.
    """

    @classmethod
    def label(cls) -> str:
        """The name in snake case, as in the literature."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    def __str__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)}"
            for f in dataclasses.fields(self)  # pyright: ignore[reportArgumentType] - concrete parts are dataclasses
            if getattr(self, f.name) != f.default
        ]
        return f"{self.label()}({', '.join(changed)})" if changed else self.label()

    def to_json(self) -> dict[str, object]:
        """Name and all fields; `from_json` reads it back."""
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType] - concrete parts are dataclasses
        form: dict[str, object] = {"name": self.label()}
        for f in fields:
            value = getattr(self, f.name)
            form[f.name] = value.to_json() if isinstance(value, Part) else value
        return form


class Method(Part, ABC, Generic[P, S]):
    """A way to spend compute on a problem.

    Concrete methods are final, frozen, stateless dataclasses; their fields are their hyper-parameters.
    """

    source: ClassVar[str]
    """The paper, as its slug in the catalogue or a citation."""
    cost: ClassVar[str]
    """What it spends per yield, as a formula in its fields."""
    buys: ClassVar[str]
    """The law it claims and where it is valid, or `no law known`."""

    @abstractmethod
    def run(self, problem: P, meter: Meter, rng: np.random.Generator) -> Iterator[S]:
        """Work on `problem`; each yield is a better answer so far, so that one run is a whole curve.

        Args:
            problem: what the family gives its methods; its doors to compute are metered already.
            meter: what this problem has spent and may still spend.
            rng: for the method's own choices; samples have seeds of their own.

        Raises:
            BudgetExhausted: passes through from the problem; nothing was spent.
        """


class Task(ABC, Generic[P, S]):
    """What is to be done: problems behind metered doors, and a score for what methods answer."""

    name: str
    digest: str
    """Changes when any problem or the grading changes."""
    model: str = ""
    """Specification of the model that does the work, in families that have one."""

    @abstractmethod
    def keys(self, split: Split) -> Sequence[str]:
        """The problems of a split in a fixed order."""

    @abstractmethod
    def open(self, key: str, meter: Meter, ask: Ask, seed: int) -> P:
        """The problem `key`, whose every use of compute is charged to `meter`: the only door to compute.

        Args:
            key: one of `keys`.
            meter: who pays.
            ask: answers the calls of its models.
            seed: the run's seed; slots' seeds follow from it, the task and the key, not from the method.
        """

    @abstractmethod
    def score(self, key: str, answer: S) -> float:
        """How good `answer` is, higher is better; off the meter."""

    def describe(self, answer: S) -> tuple[str, float]:
        """An answer as a record keeps it: its words, and the method's confidence in it (NaN: none)."""
        return str(answer), float("nan")

    def unjudged(self, problem: P, answer: S) -> str:
        """Why nobody can say how good `answer` is, through no fault of the method; empty if it can be scored."""
        return ""

    def faults(self, problem: P) -> Sequence[str]:
        """What went wrong in reading and comparing answers while the method ran, through no fault of its own."""
        return ()

    def drawn(self, problem: P) -> Sequence[S]:
        """The independent samples that a method drew of `problem` itself, where the family has such; for coverage."""
        return ()


def parts(kind: type[PartT], package: str) -> Mapping[str, type[PartT]]:
    """The concrete parts of a kind by name: the files of a folder, and entry points of other packages.

    Args:
        kind: the class they derive from.
        package: the folder, as a package name; third parties use the entry-point group `isoflop.<its last word>`.
    """
    return cast(Mapping[str, type[PartT]], _parts(kind, package))


@cache
def _parts(kind: type[Part], package: str) -> Mapping[str, type[Part]]:
    found: dict[str, type[Part]] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        names = vars(importlib.import_module(f"{package}.{module.name}"))
        for value in names.values():
            if (
                isinstance(value, type)
                and issubclass(value, kind)
                and not isabstract(value)
                and value.label() == module.name
            ):
                found[module.name] = value
    for entry in entry_points(group=f"isoflop.{package.rpartition('.')[2]}"):
        found.setdefault(entry.name, entry.load())
    return found


def read_part(kind: type[PartT], package: str, words: str | Mapping[str, object]) -> PartT:
    """A part from its words, `best_of_n(n=64)` or `best_of_n:n=64`, or from its JSON form.

    Raises:
        ValueError: unknown name, unknown field, or a value that does not fit; the message lists what exists.
    """
    if isinstance(words, str):
        match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\)|:(.*))?\s*", words, flags=re.DOTALL)
        if match is None:
            raise ValueError(f"{words!r} must read name, name(field=value, ...) or name:field=value,...")
        name, fields = match[1], _fields(match[2] or match[3] or "", words)
    else:
        name, fields = str(words["name"]), {k: v for k, v in words.items() if k != "name"}
    known = parts(kind, package)
    if name not in known:
        raise ValueError(f"unknown {kind.label()} {name!r}; known are {', '.join(sorted(known))}")
    part = known[name]
    types = get_type_hints(part)
    names = [f.name for f in dataclasses.fields(part)]  # pyright: ignore[reportArgumentType] - concrete parts are dataclasses
    for field in fields:
        if field not in names:
            raise ValueError(f"{name} has no field {field!r}; its fields are {', '.join(names) or 'none'}")
    try:
        return part(**{k: _value(types[k], v) for k, v in fields.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _fields(words: str, whole: str) -> dict[str, object]:
    fields: dict[str, object] = {}
    for item in re.split(r",(?![^(]*\))", words):  # not inside the parentheses of a nested part
        if item.strip():
            field, equals, value = item.partition("=")
            if not equals:
                raise ValueError(f"{whole!r}: {item.strip()!r} must read field=value")
            fields[field.strip()] = value.strip()
    return fields


def _value(kind: object, value: object) -> object:
    expected = str(getattr(kind, "__name__", kind))
    if isinstance(kind, type) and issubclass(kind, Part):
        if isinstance(value, str | Mapping):
            return read_part(kind, kind.__module__.rpartition(".")[0], cast("str | Mapping[str, object]", value))
        return value
    if isinstance(value, str):
        if expected == "str":
            return value
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(f"{value!r} is no {expected}") from None
    if expected == "float" and type(value) is int:
        return float(value)
    if expected in ("bool", "int", "float", "str") and type(value).__name__ != expected:
        raise ValueError(f"{value!r} is no {expected}")
    return value
