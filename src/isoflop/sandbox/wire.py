"""What crosses between two processes: frames of plain values, and nothing that has behaviour of its own.

A value is plain if it is of exactly one of the types None, bool, int, float, complex, str, bytes, bytearray, list, tuple,
dict, set, frozenset, all the way down. The format is pickle's, read by a reader that can make nothing else: it
looks up no class but the plain ones, so hostile bytes give a plain value or an error.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

_HEADER, _REQUEST = struct.Struct("<Q"), struct.Struct("<BQ")
_CONSTRUCTORS: dict[str, type] = {kind.__name__: kind for kind in (bool, int, float, complex, str, dict)}
_PLAIN_DICTS = (Counter, OrderedDict, defaultdict)


class NotPlainError(TypeError):
    """A value that is not plain was to be sent."""


class _Plain(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Called for all that pickle has no code of its own for, which is all that is not plain, and `complex`."""
        kind = type(obj)
        if kind is complex or (kind is type and obj in _CONSTRUCTORS.values()):
            return NotImplemented
        if kind in _PLAIN_DICTS:  # equal to a dict with the same items, and common in honest programs
            return dict, (dict(obj),)
        if kind.__module__ == "numpy" and isinstance(obj, sys.modules["numpy"].generic):
            number = obj.item()
            if type(number) in _CONSTRUCTORS.values():
                return type(number), (number,)
        raise NotPlainError(f"a value of type {kind.__name__} is not plain")


class _PlainWithHandles(_Plain):
    def __init__(self, file: io.BytesIO, handle: Callable[[object], int | None]) -> None:
        super().__init__(file, protocol=5)
        self._handle = handle

    def persistent_id(self, obj: object) -> int | None:
        return self._handle(obj)


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, resolve: Callable[[int], object] | None) -> None:
        super().__init__(io.BytesIO(data))
        self._resolve = resolve

    def find_class(self, module_name: str, global_name: str) -> type:
        if module_name == "builtins" and global_name in _CONSTRUCTORS:
            return _CONSTRUCTORS[global_name]
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not a plain value")

    def persistent_load(self, pid: object) -> object:
        if self._resolve is None or type(pid) is not int:
            raise pickle.UnpicklingError("a handle where none can be")
        return self._resolve(pid)


def dumps(value: object, handle: Callable[[object], int | None] | None = None) -> bytes:
    """`value` as bytes.

    Args:
        value: plain, but for parts that `handle` has a number for.
        handle: gives the number that an object which is not plain goes by, None for a plain one.

    Raises:
        NotPlainError: a part is neither plain nor has a handle.
    """
    file = io.BytesIO()
    try:
        _Plain(file, protocol=5).dump(value)
    except NotPlainError:
        if handle is None:
            raise
        file = io.BytesIO()
        _PlainWithHandles(file, handle).dump(value)
    return file.getvalue()


def loads(data: bytes, resolve: Callable[[int], object] | None = None) -> Any:
    """The value that `dumps` made `data` of, handles replaced by what `resolve` gives for their number.

    Raises:
        Exception: of many kinds, if the data was not made by `dumps`; never does it run code from the data.
    """
    return _Reader(data, resolve).load()


def is_plain(value: object) -> bool:
    """Whether `value` itself is of a plain type, whatever its parts."""
    return value is None or type(value) in _PLAIN_TYPES


_PLAIN_TYPES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, *_PLAIN_DICTS)


OPERATIONS = ("call", "get", "set", "len", "iter", "next", "item", "contains")
"""What the tests can have done to an object of the program."""


def request(operation: str, handle: int, packed: bytes) -> bytes:
    """A request to do an operation to the object that goes by `handle`, with packed arguments."""
    return _REQUEST.pack(OPERATIONS.index(operation), handle) + packed


def read_request(data: bytes) -> tuple[str, int, bytes]:
    """Operation, handle and packed arguments of a request."""
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
