import os
import pickle
import socket
import struct
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.sandbox import wire

hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
plain = st.recursive(
    hashable | st.complex_numbers(allow_nan=False) | st.binary().map(bytearray),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(hashable, inner) | st.sets(hashable, max_size=3),
    max_leaves=20,
)


def types_in(value: object) -> object:
    if isinstance(value, dict):
        return [(types_in(k), types_in(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types_in(part) for part in value]
    return type(value)


@given(plain)
def test_plain_values_come_back_with_their_types(value):
    back = wire.loads(wire.dumps(value))
    assert back == value
    assert types_in(back) == types_in(value)


class Evil(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [Evil(1), [1, [Evil(2)]], {"a": object()}, len, int, Counter("a"), range(3), ...])
def test_all_else_is_refused(value):
    with pytest.raises(wire.NotPlainError):
        wire.dumps(value)


def test_stand_ins_travel_for_what_is_not_plain():
    things = [object(), object()]
    back = wire.loads(wire.dumps([7, things, 2j], things.index), "thing {}".format)
    assert back == [7, ["thing 0", "thing 1"], 2j]
    assert wire.loads(wire.dumps([Counter("aab")], lambda c: (dict(c),))) == [{"a": 2, "b": 1}]
    with pytest.raises(wire.NotPlainError):
        wire.loads(wire.dumps(things[0], lambda _: 3))  # nobody here knows handles


class Runs:
    def __reduce__(self):
        return os.mkdir, ("/tmp/this-must-not-be-made",)


@pytest.mark.parametrize(
    "data",
    [pickle.dumps(Runs()), pickle.dumps(int), pickle.dumps(Counter("a")), b"", b"\xff" * 50, b"cos\nsystem\n."],
)
def test_hostile_bytes_are_an_error_and_run_nothing(data):
    with pytest.raises(Exception, match=r".*"):
        wire.loads(data)
    assert not os.path.exists("/tmp/this-must-not-be-made")  # noqa: PTH110


def test_requests():
    assert wire.read_request(wire.request("item", 7, b"packed")) == ("item", 7, b"packed")


def test_frames_of_all_sizes():
    near, far = socket.socketpair()
    with near, far:
        for size in (0, 1, 70_000, 3_000_000):  # less and more than one read takes, and than a socket holds
            sender = threading.Thread(target=wire.write_frame, args=(near.fileno(), b"x" * size))
            sender.start()
            assert wire.read_frame(far.fileno(), 1 << 30) == b"x" * size
            sender.join()
        near.close()
        with pytest.raises(EOFError):
            wire.read_frame(far.fileno(), 100)


def test_frames_out_of_bounds():
    near, far = socket.socketpair()
    with near, far:
        near.send(struct.pack("<Q", 1 << 60))
        with pytest.raises(ValueError, match="more than 100"):
            wire.read_frame(far.fileno(), 100)
        near.send(2 * (struct.pack("<Q", 1) + b"x"))
        with pytest.raises(ValueError, match="two"):
            wire.read_frame(far.fileno(), 100)
