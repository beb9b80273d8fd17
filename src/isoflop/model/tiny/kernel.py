# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingTypeArgument=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false
"""One pass of a decoder over a batch of tokens, compiled by numba (LLVM; no compiler on the user's machine is needed).

A batch is rows, each one token of some sequence; decoding (one row a sequence) and reading a prompt (all its rows at
once) are the same pass. Every row is computed by its own chain of fused multiply-adds, in an order that the network's
shape fixes; so a row's bits do not depend on the rows beside it, on their number, or on the threads. That is why the
matrix product here is ours and not a BLAS, whose order of summation depends on a row's place in the batch (OpenBLAS on
AVX2: for every batch size tried). It is as fast, because the shapes are small: `python -m benchmarks.tiny`.

All of it works on `Lanes`, sixteen floats at a time, which LLVM puts into as many registers as the machine needs: one
on AVX-512, two on AVX2, four on NEON. The first half of this file is that type, the second half the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LANES = 16
"""Floats that are computed together; also the width of a head."""
PAGE = LANES // 2
"""Tokens of a page."""
TILE, VECTORS = (8, 3) if binding.get_host_cpu_features().get("avx512f", False) else (6, 1)
"""Rows and Lanes of columns of a matrix product that are computed together: their sums must fit the registers."""
BLOCK = 8 * TILE
"""Rows that go through a layer together: what lies between its products then stays in the first caches."""
_LOW = np.float32(-3e38)


def compiled(function: F) -> F:
    """Compile a function when it is first called, and keep the code beside this file for the next process."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # nowhere to keep it
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


# Sixteen floats

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


def instruction(generate: Callable[..., Any]) -> Callable[..., Any]:
    """A function of compiled code, given as what types its arguments and writes its LLVM instructions."""
    return cast(Callable[..., Any], intrinsic(generate))


class Lanes(types.Type):
    """The type of sixteen floats in registers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


_lanes = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [float(np.float32(value))] * LANES)


def _called(b: Any, name: str, *args: Any) -> Any:
    """The result of an LLVM intrinsic that takes and gives vectors."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
    return b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}.v{LANES}f32"), args)


def _repeated(b: Any, x: Any, vector: Any) -> Any:
    one = b.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(_INT, 0))
    return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def _data(context: Any, b: Any, kind: Any, array: Any, at: Any) -> Any:
    """The address of an element of a flat array."""
    return b.gep(context.make_array(kind)(context, b, array).data, [at])


def _loaded(b: Any, address: Any) -> Any:
    found = b.load(b.bitcast(address, _VECTOR.as_pointer()))
    found.align = 4
    return found


def _stored(b: Any, x: Any, address: Any) -> None:
    b.store(x, b.bitcast(address, _VECTOR.as_pointer())).align = 4


@instruction
def load(_: Any, array: Any, at: Any) -> Any:
    """Lanes array[at : at + 16] of a flat array."""
    return _lanes(array, types.intp), lambda c, b, s, a: _loaded(b, _data(c, b, s.args[0], a[0], a[1]))


@instruction
def store(_: Any, array: Any, at: Any, x: Any) -> Any:
    """Put lanes into array[at : at + 16]."""

    def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
        _stored(b, a[2], _data(c, b, s.args[0], a[0], a[1]))
        return c.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@instruction
def splat(_: Any, x: Any) -> Any:
    """The same float in all lanes."""
    return _lanes(types.float32), lambda c, b, s, a: _repeated(b, a[0], _VECTOR)


@instruction
def spread(_: Any, array: Any, at: Any) -> Any:
    """The float array[at] of a flat array in all lanes."""
    return _lanes(array, types.intp), lambda c, b, s, a: _repeated(b, b.load(_data(c, b, s.args[0], *a)), _VECTOR)


@instruction
def fma(_: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    return _lanes(_lanes, _lanes, _lanes), lambda c, b, s, a: _called(b, "fma", *a)


def _binary(name: str) -> Any:
    @instruction
    def operation(_: Any, x: Any, y: Any) -> Any:
        return _lanes(_lanes, _lanes), lambda c, b, s, a: getattr(b, name)(*a)

    return operation


add, sub, mul, div = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))


@instruction
def larger(_: Any, x: Any, y: Any) -> Any:
    """The larger of each two lanes."""
    return _lanes(_lanes, _lanes), lambda c, b, s, a: _called(b, "maxnum", *a)


def _chosen(b: Any, x: Any, y: Any, places: Sequence[int]) -> Any:
    """Lanes of x (places 0 to 15) and y (16 to 31)."""
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INT, len(places)), list(places)))


def _folded(b: Any, x: Any, combine: Callable[[Any, Any], Any], width: int) -> Any:
    """Each `width` lanes combined, in every one of them, as a tree whose order is fixed."""
    for half in (half for half in (8, 4, 2, 1) if half < width):
        x = combine(x, _chosen(b, x, x, [i - i % width + (i + half) % width for i in range(LANES)]))
    return x


@instruction
def rotated(_: Any, x: Any) -> Any:
    """The lanes 8 to 15, then 0 to 7."""
    places = [(i + LANES // 2) % LANES for i in range(LANES)]
    return _lanes(_lanes), lambda c, b, s, a: _chosen(b, a[0], a[0], places)


@instruction
def total(_: Any, x: Any) -> Any:
    """The sum of all lanes."""

    def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
        return b.extract_element(_folded(b, a[0], b.fadd, LANES), ir.Constant(_INT, 0))

    return types.float32(_lanes), generate


@instruction
def totals(_: Any, x: Any) -> Any:
    """The sum of the lanes 0 to 7, eight times, then that of the others."""
    return _lanes(_lanes), lambda c, b, s, a: _folded(b, a[0], b.fadd, LANES // 2)


@instruction
def tops(_: Any, x: Any) -> Any:
    """The largest of the lanes 0 to 7, eight times, then that of the others."""
    return _lanes(_lanes), lambda c, b, s, a: _folded(b, a[0], lambda x, y: _called(b, "maxnum", x, y), LANES // 2)


@instruction
def first(_: Any, x: Any, count: Any, other: Any) -> Any:
    """The first `count` of the lanes 0 to 7 and of the others, and `other` in the rest."""

    def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
        count = _repeated(b, b.trunc(a[1], _INT), _INTS)
        kept = b.icmp_signed("<", ir.Constant(_INTS, [i % (LANES // 2) for i in range(LANES)]), count)
        return b.select(kept, a[0], _repeated(b, a[2], _VECTOR))

    return _lanes(_lanes, types.intp, types.float32), generate


@instruction
def store_quarters(_: Any, array: Any, at: Any, x: Any) -> Any:
    """Put the lanes 0 to 3 into array[at : at + 4], the next four 16 places on, and so on."""

    def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
        start = _data(c, b, s.args[0], a[0], a[1])
        for quarter in range(0, LANES, 4):
            four = _chosen(b, a[2], a[2], range(quarter, quarter + 4))
            address = b.gep(start, [ir.Constant(a[1].type, quarter // 4 * LANES)])
            b.store(four, b.bitcast(address, four.type.as_pointer())).align = 4
        return c.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@instruction
def scores(_: Any, one: Any, two: Any, cache: Any, at: Any) -> Any:
    """Products of two queries with the keys of a page: the eight of the one, then those of the other."""

    def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
        def neighbours_added(x: Any, y: Any) -> Any:
            """In each four lanes two sums of x, then two of y."""
            even = [four + i for four in range(0, LANES, 4) for i in (0, 2, LANES, LANES + 2)]
            return b.fadd(_chosen(b, x, y, even), _chosen(b, x, y, [i + 1 for i in even]))

        keys, found = _data(c, b, s.args[2], a[2], a[3]), list[Any]()
        for query in a[:2]:
            quarters = [_chosen(b, query, query, [q + i % 4 for i in range(LANES)]) for q in range(0, LANES, 4)]
            sums = [_constant(0.0)] * 2  # four for each of four tokens
            for i in range(8):
                key = _loaded(b, b.gep(keys, [ir.Constant(a[3].type, i * LANES)]))
                sums[i // 4] = _called(b, "fma", quarters[i % 4], key, sums[i // 4])
            found.append(neighbours_added(*sums))
        both = neighbours_added(*found)  # in each four lanes: token i for one, token i + 4, i for two, i + 4
        return _chosen(b, both, both, [t % 4 * 4 + t // 4 + query for query in (0, 2) for t in range(PAGE)])

    return _lanes(_lanes, _lanes, cache, types.intp), generate


@instruction
def exp(_: Any, x: Any) -> Any:
    """e to the x to 2e-7, 0 below -88, at most e to the 88: two to the whole part by the exponent's bits, a polynomial
    for the rest."""

    def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
        x = _called(b, "minnum", _called(b, "maxnum", a[0], _constant(-88.1)), _constant(88.0))
        shift = _constant(1.5 * 2**23 + 127)  # what is added to it is rounded, and in its lowest bits
        shifted = _called(b, "fma", x, _constant(1.4426950408889634), shift)
        whole = b.fsub(shifted, shift)
        rest = _called(b, "fma", whole, _constant(-0.693145751953125), x)
        rest = _called(b, "fma", whole, _constant(-1.428606765330187e-06), rest)
        p = _constant(1 / 720)
        for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
            p = _called(b, "fma", p, rest, _constant(coefficient))
        power = b.shl(b.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return b.fmul(p, b.bitcast(power, _VECTOR))

    return _lanes(_lanes), generate


def _tile(rows: int) -> Any:
    """A product of some rows of x with a panel of w, its sums in registers from the first to the last column of x."""

    @instruction
    def tile(_: Any, x: Any, at: Any, depth: Any, w: Any, panel: Any, out: Any, to: Any, columns: Any) -> Any:
        def generate(c: Any, b: Any, s: Any, a: Any) -> Any:
            x, w, out = (_data(c, b, s.args[i], a[i], a[i + 1]) for i in (0, 3, 5))
            depth, columns = a[2], a[7]
            place = depth.type
            sums = [[cgutils.alloca_once(b, _VECTOR) for _ in range(VECTORS)] for _ in range(rows)]
            for cell in (cell for row in sums for cell in row):
                b.store(_constant(0.0), cell)
            starts = [b.gep(x, [b.mul(depth, ir.Constant(place, r))]) for r in range(rows)]
            with cgutils.for_range(b, depth) as loop:
                line = b.gep(w, [b.mul(loop.index, ir.Constant(place, LANES * VECTORS))])
                weights = [_loaded(b, b.gep(line, [ir.Constant(place, LANES * v)])) for v in range(VECTORS)]
                for row, start in zip(sums, starts, strict=True):
                    value = _repeated(b, b.load(b.gep(start, [loop.index])), _VECTOR)
                    for cell, weight in zip(row, weights, strict=True):
                        b.store(_called(b, "fma", value, weight, b.load(cell)), cell)
            for r, row in enumerate(sums):
                line = b.gep(out, [b.mul(columns, ir.Constant(place, r))])
                for v, cell in enumerate(row):
                    _stored(b, b.load(cell), b.gep(line, [ir.Constant(place, LANES * v)]))
            return c.get_dummy_value()

        i = types.intp
        return types.void(x, i, i, w, i, out, i, i), generate

    return tile


_tile_of_many, _tile_of_one = _tile(TILE), _tile(1)


# The network


def aligned(rows: int, columns: int) -> Floats:
    """Zeros [rows, columns] that start with a cache line; sixteen floats across two take twice as long to load."""
    found = np.zeros(rows * columns + LANES, np.float32)
    start = -(found.ctypes.data // 4) % LANES
    return found[start : start + rows * columns].reshape(rows, columns)


_aligned = compiled(aligned)


class Weights(NamedTuple):
    """A decoder's matrices, arranged for the pass: norms and the attention's scale folded in, those of products in
    panels [layers,] [panels, rows, 16 * VECTORS] of columns, filled up with zeros; and the cosines and signed sines of
    each position [context, 2 * 16]."""

    turns: Floats
    embedding: Floats
    qkv: Floats
    out: Floats
    gate_up: Floats
    down: Floats
    head: Floats


class Rows(NamedTuple):
    """B tokens, each the newest of its sequence as far as its row is concerned.

    A sequence's keys and values are in pages of 8 tokens: those of its prompt, shared by all that continue it, and
    then its own. Rows of one sequence in one pass see each other's.

    Args:
        tokens: what they are [B].
        positions: where they stand [B].
        pages: of each row's sequence [B, P].
        shared: tokens of the prompt that come before (count) [B].
        own: tokens of its own, this one the last (count) [B].
    """

    tokens: Ints
    positions: Ints
    pages: Ints
    shared: Ints
    own: Ints


class Slots(NamedTuple):
    """What S slots have drawn, and how they draw.

    Args:
        tokens: drawn so far [S, T].
        logprobs: of these (nats) [S, T].
        seeds: of their random numbers [S].
        drawn: how many (count) [S].
        most: how many to draw, 0 in a slot that is free (count) [S].
        temperature: 0 is greedy [S].
        top_p: nucleus, a fraction of the probability mass [S].
        may_end: tokens after which one has to look whether the sample ends [S, V].
    """

    tokens: Ints
    logprobs: NDArray[np.float64]
    seeds: NDArray[np.uint64]
    drawn: Ints
    most: Ints
    temperature: NDArray[np.float64]
    top_p: NDArray[np.float64]
    may_end: NDArray[np.bool_]


def panels(matrix: Floats) -> Floats:
    """A matrix [..., K, N] as `product` takes it, [..., panels, K, 16 * VECTORS]."""
    *before, K, N = matrix.shape
    width = LANES * VECTORS
    filled = np.zeros((*before, K, -(-N // width) * width), np.float32)
    filled[..., :N] = matrix
    found = aligned(1, filled.size).reshape(*before, -1, K, width)
    found[:] = np.swapaxes(filled.reshape(*before, K, -1, width), -3, -2)
    return found


@compiled
def product(x: Floats, w: Floats, out: Floats) -> None:
    """x [B, K] times panels w [panels, K, 16 * VECTORS] into out [B, panels * 16 * VECTORS]."""
    (B, K), (P, _, width) = x.shape, w.shape
    N = P * width
    x_, w_, out_ = x.reshape(-1), w.reshape(-1), out.reshape(-1)
    whole = B - B % TILE
    for p in range(P):
        for i in range(0, whole, TILE):
            _tile_of_many(x_, i * K, K, w_, p * K * width, out_, i * N + p * width, N)
        for i in range(whole, B):
            _tile_of_one(x_, i * K, K, w_, p * K * width, out_, i * N + p * width, N)


@compiled
def _normed(x: Floats, y: Floats) -> None:
    """Rows [B, D] over their root mean square."""
    (B, D), x_, y_ = x.shape, x.reshape(-1), y.reshape(-1)
    for at in range(0, B * D, D):
        squares = splat(np.float32(0))
        for i in range(at, at + D, LANES):
            squares = fma(load(x_, i), load(x_, i), squares)
        scale = splat(np.float32(1) / np.sqrt(total(squares) / np.float32(D) + np.float32(1e-5)))
        for i in range(at, at + D, LANES):
            store(y_, i, mul(load(x_, i), scale))


@compiled
def _add(x: Floats, y: Floats) -> None:
    """Add to x [B, D] the first columns of y."""
    (B, D), N, x_, y_ = x.shape, y.shape[1], x.reshape(-1), y.reshape(-1)
    for b in range(B):
        for i in range(0, D, LANES):
            store(x_, b * D + i, add(load(x_, b * D + i), load(y_, b * N + i)))


@compiled
def _gated(gate_up: Floats, y: Floats) -> None:
    """silu(gate) * up of [B, 2 H] into y [B, H] (SwiGLU)."""
    (B, H), N, from_, y_ = y.shape, gate_up.shape[1], gate_up.reshape(-1), y.reshape(-1)
    zero, one = splat(np.float32(0)), splat(np.float32(1))
    for b in range(B):
        for i in range(0, H, LANES):
            gate = load(from_, b * N + i)
            silu = div(gate, add(one, exp(sub(zero, gate))))
            store(y_, b * H + i, mul(silu, load(from_, b * N + H + i)))


@compiled
def _keep(qkv: Floats, rows: Rows, turns: Floats, cache: Floats, heads: int) -> None:
    """Turn queries and keys by their positions, and put keys and values of a layer where the pages have them."""
    (B, N), kv_heads = qkv.shape, cache.shape[2]
    qkv_, turns_, cache_ = qkv.reshape(-1), turns.reshape(-1), cache.reshape(-1)
    for b in range(B):
        turn = rows.positions[b] * 2 * LANES
        cos, sin = load(turns_, turn), load(turns_, turn + LANES)
        for at in range(b * N, b * N + (heads + kv_heads) * LANES, LANES):
            x = load(qkv_, at)
            store(qkv_, at, fma(rotated(x), sin, mul(x, cos)))
        own = rows.own[b] - 1
        page, t = rows.pages[b, (rows.shared[b] + PAGE - 1) // PAGE + own // PAGE], own % PAGE
        for g in range(kv_heads):
            keys, key = (page * 2 * kv_heads + g) * PAGE * LANES, b * N + (heads + g) * LANES
            store_quarters(cache_, keys + t // 4 * 4 * LANES + t % 4 * 4, load(qkv_, key))
            store(cache_, keys + (kv_heads * PAGE + t) * LANES, load(qkv_, key + kv_heads * LANES))


@compiled
def _pair(pair: int, heads: int, kv_heads: int) -> tuple[int, int, int]:
    """Two query heads that share keys and values, and those; a last one that is left over is a pair with itself."""
    group = heads // kv_heads
    g = pair // ((group + 1) // 2)
    one = g * group + pair % ((group + 1) // 2) * 2
    return one, min(one + 1, (g + 1) * group - 1), g


@compiled
def _attend(qkv: Floats, rows: Rows, cache: Floats, out: Floats) -> None:
    """What each row's heads gather from the tokens that it sees, itself included, into out [B, heads * 16].

    Heads go in pairs, so that what is loaded serves two; lanes 0 to 7 are of the one, the others of the other. Each
    stage is done for all pairs, as a pair's own stages wait for each other.
    """
    (B, N), heads, kv_heads, P = qkv.shape, out.shape[1] // LANES, cache.shape[2], rows.pages.shape[1]
    qkv_, cache_, out_, pairs = (
        qkv.reshape(-1),
        cache.reshape(-1),
        out.reshape(-1),
        kv_heads * ((heads // kv_heads + 1) // 2),
    )
    weights, scales = _aligned(pairs, P * LANES).reshape(-1), _aligned(pairs, LANES).reshape(-1)
    zero = splat(np.float32(0))
    for b in range(B):
        before = (rows.shared[b] + PAGE - 1) // PAGE
        pages = before + (rows.own[b] + PAGE - 1) // PAGE
        for pair in range(pairs):
            one, two, g = _pair(pair, heads, kv_heads)
            query, other, top = load(qkv_, b * N + one * LANES), load(qkv_, b * N + two * LANES), splat(_LOW)
            for p in range(pages):
                there = rows.shared[b] - p * PAGE if p < before else rows.own[b] - (p - before) * PAGE
                found = scores(query, other, cache_, (rows.pages[b, p] * 2 * kv_heads + g) * PAGE * LANES)
                found = first(found, there, _LOW)
                top = larger(top, found)
                store(weights, (pair * P + p) * LANES, found)
            store(scales, pair * LANES, top)
        for pair in range(pairs):
            top, sums = tops(load(scales, pair * LANES)), zero
            for at in range(pair * P * LANES, (pair * P + pages) * LANES, LANES):
                weight = exp(sub(load(weights, at), top))
                sums = add(sums, weight)
                store(weights, at, weight)
            store(scales, pair * LANES, div(splat(np.float32(1)), totals(sums)))
        for pair in range(pairs):
            one, two, g = _pair(pair, heads, kv_heads)
            even, odd, other_even, other_odd = zero, zero, zero, zero
            for p in range(pages):
                at, values = (pair * P + p) * LANES, ((rows.pages[b, p] * 2 + 1) * kv_heads + g) * PAGE * LANES
                for t in range(
                    0, PAGE, 2
                ):  # what is not there weighs 0: other lengths would cost mispredicted branches
                    value, next_value = load(cache_, values + t * LANES), load(cache_, values + (t + 1) * LANES)
                    even = fma(spread(weights, at + t), value, even)
                    odd = fma(spread(weights, at + t + 1), next_value, odd)
                    other_even = fma(spread(weights, at + PAGE + t), value, other_even)
                    other_odd = fma(spread(weights, at + PAGE + t + 1), next_value, other_odd)
            store(out_, (b * heads + one) * LANES, mul(add(even, odd), spread(scales, pair * LANES)))
            store(out_, (b * heads + two) * LANES, mul(add(other_even, other_odd), spread(scales, pair * LANES + PAGE)))


@compiled
def forward(rows: Rows, weights: Weights, cache: Floats, logits: Floats) -> None:
    """Advance sequences by rows of new tokens: their keys and values into the cache, and what comes next.

    Args:
        rows: B tokens.
        weights: of L layers of width D.
        cache: pages of keys, then values, of each layer [L, pages, 2, kv_heads, 8 * 16]. Keys are in quarters, of four
            tokens each [2, 4 quarters of the width, 4 tokens, 4 of the width]; values are [8 tokens, 16 of the width].
        logits: where those after each row go [B, V or more].
    """
    B, D, L, width = len(rows.tokens), weights.embedding.shape[1], len(cache), LANES * VECTORS
    x, block = _aligned(B, D), min(B, BLOCK)
    y_, gathered_, hidden_ = _aligned(block, D), _aligned(block, D), _aligned(block, weights.down.shape[2])
    qkv_, stream_ = _aligned(block, weights.qkv.shape[1] * width), _aligned(block, weights.out.shape[1] * width)
    gate_up_ = _aligned(block, weights.gate_up.shape[1] * width)
    for b in range(B):
        x[b] = weights.embedding[rows.tokens[b]]
    for layer in range(L):
        for start in range(0, B, BLOCK):
            stop = min(start + BLOCK, B)
            n = stop - start
            now = Rows(
                rows.tokens[start:stop],
                rows.positions[start:stop],
                rows.pages[start:stop],
                rows.shared[start:stop],
                rows.own[start:stop],
            )
            x_, y, gathered, hidden = x[start:stop], y_[:n], gathered_[:n], hidden_[:n]
            qkv, stream, gate_up = qkv_[:n], stream_[:n], gate_up_[:n]
            _normed(x_, y)
            product(y, weights.qkv[layer], qkv)
            _keep(qkv, now, weights.turns, cache[layer], D // LANES)
            _attend(qkv, now, cache[layer], gathered)
            product(gathered, weights.out[layer], stream)
            _add(x_, stream)
            _normed(x_, y)
            product(y, weights.gate_up[layer], gate_up)
            _gated(gate_up, hidden)
            product(hidden, weights.down[layer], stream)
            _add(x_, stream)
    y = _aligned(B, D)
    _normed(x, y)
    product(y, weights.head, logits)


@compiled
def _powers(x: Floats, at: int, top: np.float32, scale: np.float32, p: Floats) -> None:
    """e to the scale (x[at : at + N] - top), into p [N]."""
    top_, scale_ = splat(top), splat(scale)
    for i in range(0, len(p), LANES):
        store(p, i, exp(mul(sub(load(x, at + i), top_), scale_)))


@compiled
def draw(
    logits: Floats,
    vocabulary: int,
    temperature: NDArray[np.float64],
    top_p: NDArray[np.float64],
    uniform: NDArray[np.float64],
) -> tuple[Ints, NDArray[np.float64]]:
    """A token for each row of logits [B, V or more, a multiple of 16], and its log-probability (nats); never token 0,
    the padding.

    By inversion of the cumulated probabilities of the nucleus, or the best at temperature 0.
    """
    (B, N), logits_ = logits.shape, logits.reshape(-1)
    tokens, logprobs, p = np.empty(B, np.int64), np.empty(B), np.empty(N, np.float32)
    for b in range(B):
        best = 1
        for v in range(2, vocabulary):
            best = v if logits[b, v] > logits[b, best] else best
        top, everything = logits[b, best], 0.0
        _powers(logits_, b * N, top, np.float32(1), p)
        for v in range(1, vocabulary):
            everything += p[v]
        token = best
        if temperature[b] > 0:
            mass = everything
            if temperature[b] != 1:
                mass = 0.0
                _powers(logits_, b * N, top, np.float32(1 / temperature[b]), p)
                for v in range(1, vocabulary):
                    mass += p[v]
            if top_p[b] < 1:
                mass = _nucleus(p[:vocabulary], top_p[b] * mass)
            below = 0.0
            for v in range(1, vocabulary):
                if p[v] > 0:
                    token = v
                    below += p[v]
                    if below > uniform[b] * mass:
                        break
        tokens[b], logprobs[b] = token, np.float64(logits[b, token]) - np.float64(top) - np.log(everything)
    return tokens, logprobs


@compiled
def random(seed: np.uint64, place: int) -> float:
    """A number in [0, 1) from a seed and a place (splitmix64)."""
    x = _mixed(seed) + np.uint64(place + 1) * np.uint64(0x9E3779B97F4A7C15)
    return (_mixed(x) >> np.uint64(11)) * 2.0**-53


@compiled
def _mixed(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def record(logits: Floats, rows: Ints, slots: Slots) -> NDArray[np.bool_]:
    """Draw the next token of some rows of the slots from logits [B, V or more]; which of them may end with it [B]."""
    B = len(rows)
    uniform, ended = np.empty(B), np.empty(B, np.bool_)
    for b in range(B):
        row = int(rows[b])
        uniform[b] = random(slots.seeds[row], int(slots.drawn[row]))
    vocabulary = slots.may_end.shape[1]
    tokens, logprobs = draw(logits, vocabulary, slots.temperature[rows], slots.top_p[rows], uniform)
    for b in range(B):
        row, at = rows[b], slots.drawn[rows[b]]
        slots.tokens[row, at], slots.logprobs[row, at], slots.drawn[row] = tokens[b], logprobs[b], at + 1
        ended[b] = slots.may_end[row, tokens[b]] or at + 1 >= slots.most[row]
    return ended


@compiled
def _nucleus(p: Floats, enough: float) -> float:
    """Keep the fewest of p[1:] that reach `enough`, largest first, and set the others to 0; the mass that is left."""
    kept, mass = np.zeros(len(p), np.bool_), 0.0
    while mass < enough:
        best = 0
        for v in range(1, len(p)):
            if not kept[v] and (best == 0 or p[v] > p[best]):
                best = v
        if best == 0:
            break
        kept[best] = True
        mass += p[best]
    for v in range(1, len(p)):
        if not kept[v]:
            p[v] = 0.0
    return mass
