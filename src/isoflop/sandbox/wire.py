"""What crosses between two processes: frames of plain values, and nothing that has behaviour of its own.

A value is plain if it is of exactly one of the types None, bool, int, float, complex, str, bytes, bytearray, list,
tuple, dict, set, frozenset, all the way down. The format is pickle's, read by a reader that knows no class at all, so
that hostile bytes give a plain value or an error.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any

StandIn = int | tuple[object]
"""What travels instead of an object that is not plain: the handle that it goes by, or a value to take for it."""
_PLAIN = frozenset((type(None), bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset))
_HEADER, _REQUEST = struct.Struct("<Q"), struct.Struct("<BQ")


class NotPlainError(TypeError):
    """A value that is not plain was to be sent."""


class _Pickler(pickle.Pickler):
    """Knows the types that are written without code of their own; nearly all values are made of these."""

    def reducer_override(self, obj: Any) -> Any:
        raise NotPlainError(f"a value of type {type(obj).__name__} is not plain")


class _PatientPickler(_Pickler):
    """Asks about every part of a value."""

    def __init__(self, file: io.BytesIO, stand_in: Callable[[object], StandIn | None]) -> None:
        super().__init__(file, protocol=5)
        self._stand_in = stand_in

    def persistent_id(self, obj: object) -> object:
        if type(obj) in _PLAIN:
            return None
        return (obj.real, obj.imag) if type(obj) is complex else self._stand_in(obj)


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, resolve: Callable[[int], object]) -> None:
        super().__init__(io.BytesIO(data))
        self._resolve = resolve

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not a plain value")

    def persistent_load(self, pid: Any) -> object:
        if type(pid) is int:
            return self._resolve(pid)
        return complex(*pid) if len(pid) == 2 else pid[0]


def _nothing(_: object) -> Any:
    raise NotPlainError("an object of another process is not plain")


def dumps(value: object, stand_in: Callable[[object], StandIn | None] = lambda _: None) -> bytes:
    """`value` as bytes.

    Args:
        value: plain, but for parts that `stand_in` knows something for.
        stand_in: gives what travels for an object that is not plain, None if nothing can.

    Raises:
        NotPlainError: a part is not plain and nothing stands in for it.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, protocol=5).dump(value)
    except NotPlainError:
        file = io.BytesIO()
        _PatientPickler(file, stand_in).dump(value)
    return file.getvalue()


def loads(data: bytes, resolve: Callable[[int], object] = _nothing) -> Any:
    """The value that `dumps` made `data` of, handles replaced by what `resolve` gives for them.

    Raises:
        Exception: of many kinds, if the data was not made by `dumps`; never does it run code from the data.
    """
    return _Reader(data, resolve).load()


OPERATIONS = ("call", "get", "set", "len", "iter", "next", "item", "contains")
"""What the tests can have done to an object of the program."""


def request(operation: str, handle: int, packed: bytes) -> bytes:
    """A request to do an operation to the object that goes by `handle`, with packed arguments."""
    return _REQUEST.pack(OPERATIONS.index(operation), handle) + packed


def read_request(data: bytes) -> tuple[str, int, bytes]:
    """Operation, handle and packed arguments of a request."""
    operation: int
    handle: int
    operation, handle = _REQUEST.unpack_from(data)
    return OPERATIONS[operation], handle, data[_REQUEST.size :]


def write_frame(fd: int, data: bytes) -> None:
    """Send `data` whole."""
    frame = _HEADER.pack(len(data)) + data
    sent = os.write(fd, frame)
    while sent < len(frame):
        sent += os.write(fd, memoryview(frame)[sent:])


def read_frame(fd: int, most_bytes: int) -> bytes:
    """The next frame.

    Raises:
        EOFError: the other side is gone.
        ValueError: the frame is larger than `most_bytes`, or another follows it at once.
    """
    data = _read(fd)
    while len(data) < _HEADER.size:
        data += _read(fd)
    (size,) = _HEADER.unpack_from(data)
    if size > most_bytes:
        raise ValueError(f"it has {size} bytes in transit, more than {most_bytes}")
    missing = _HEADER.size + size - len(data)
    if missing > 0:
        parts = [data]
        while missing > 0:
            parts.append(_read(fd))
            missing -= len(parts[-1])
        data = b"".join(parts)
    if missing < 0:
        raise ValueError("there are two")
    return data[_HEADER.size :]


def _read(fd: int) -> bytes:
    data = os.read(fd, 1 << 16)
    if not data:
        raise EOFError
    return data
