"""Options of a model's specification: `name=value` words into frozen dataclasses, and back."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")


def pairs(items: Iterable[str], whole: str) -> dict[str, str]:
    """`name=value` items as a mapping; empty items are skipped.

    Args:
        items: the words.
        whole: the specification they stand in, for the message.

    Raises:
        ValueError: an item has no `=`, or a name comes twice.
    """
    words: dict[str, str] = {}
    for item in items:
        name, equals, value = item.strip().partition("=")
        if not name and not equals:
            continue
        if not equals or not name:
            raise ValueError(f"{whole!r}: {item.strip()!r} must read option=value")
        if name in words:
            raise ValueError(f"{whole!r}: the option {name!r} is given twice")
        words[name] = value
    return words


def read(kind: type[D], words: Mapping[str, str]) -> D:
    """A dataclass from those of `words` that name its fields.

    Raises:
        ValueError: a value does not fit its field.
    """
    types_ = get_type_hints(kind)
    return kind(**{f.name: _value(types_[f.name], f.name, words[f.name]) for f in fields(kind) if f.name in words})


def refuse_unknown(words: Mapping[str, str], kinds: Iterable[type[DataclassInstance]], what: str) -> None:
    """Check that every word names a field of one of `kinds`; values stay out of the message, one may be a secret.

    Raises:
        ValueError: it does not.
    """
    known = [f.name for kind in kinds for f in fields(kind)]
    if unknown := [name for name in words if name not in known]:
        raise ValueError(f"{what} has no option {', '.join(map(repr, unknown))}; its options are {', '.join(known)}")


def changed(*instances: DataclassInstance) -> dict[str, str]:
    """The fields that differ from their defaults, as words that `read` takes."""
    return {
        f.name: _words(value)
        for instance in instances
        for f in fields(instance)
        if (value := getattr(instance, f.name)) != f.default and value == value  # NaN is the default of an unknown
    }


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ":".join(_words(part) for part in cast("tuple[object, ...]", value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _value(kind: Any, name: str, words: str) -> object:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _value(next(k for k in inner if k is not type(None)), name, words)
    if origin is Literal:
        if words not in inner:
            raise ValueError(f"{name}={words} must be one of {', '.join(inner)}")
        return words
    if origin is tuple:
        parts = words.split(":")
        if len(parts) != len(inner):
            raise ValueError(f"{name}={words} must have {len(inner)} values between colons")
        return tuple(_value(k, name, part) for k, part in zip(inner, parts, strict=True))
    if kind is bool:
        if words not in ("true", "false"):
            raise ValueError(f"{name}={words} must be true or false")
        return words == "true"
    try:
        return int(float(words)) if kind is int and float(words).is_integer() else kind(words)
    except (ValueError, OverflowError):
        raise ValueError(f"{name}={words} is no {'whole number' if kind is int else 'number'}") from None
