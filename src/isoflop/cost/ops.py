"""What torch operators spend: FLOPs, bytes moved and memory, counted operator by operator as they run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from isoflop.cost.energy import EnergyMeter
from isoflop.cost.meter import Meter, Role
from isoflop.cost.vector import FREE, Cost

_aten = torch.ops.aten
Formula = Callable[..., float]


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: object) -> float:
    """Products of queries [..., T, D] with keys [..., S, D], and of the weights with values [..., S, E]."""
    return 2.0 * q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _multi_head(q: Tensor, k: Tensor, v: Tensor, width: int, *_: object) -> float:
    """Four projections and attention, of inputs [B, T, D] and [B, S, D]."""
    projected = q.numel() + k.numel() + v.numel() + q.numel()
    return 2.0 * projected * width + 4.0 * q.numel() * k.shape[1]


def _encoder_layer(x: Tensor, width: int, *rest: Any) -> float:
    return _multi_head(x, x, x, width) + 4.0 * x.numel() * rest[12].shape[0]


def _rnn_layer(x: Tensor, w_input: Tensor, w_hidden: Tensor, *_: object) -> float:
    """A fused recurrent layer over x [T, B, I]; its weights are [gates * H, I] and [gates * H, H]."""
    return 2.0 * x.shape[0] * x.shape[1] * (w_input.numel() + w_hidden.numel())


def _attention_backward(_: Tensor, q: Tensor, k: Tensor, v: Tensor, *__: object) -> float:
    return 2.5 * _attention(q, k, v)


def _product(a: Tensor, b: Tensor, *_: object) -> float:
    return 2.0 * a.numel() * b.shape[-1]


def _added_product(_: Tensor, a: Tensor, b: Tensor, *__: object) -> float:
    return _product(a, b)


def _transposed_product(a: Tensor, b: Tensor, *_: object) -> float:
    return 2.0 * a.numel() * b.shape[0]


def _product_with_vector(a: Tensor, *_: object) -> float:
    return 2.0 * a.numel()


def _added_product_with_vector(_: Tensor, a: Tensor, *__: object) -> float:
    return 2.0 * a.numel()


def _distances(a: Tensor, b: Tensor, *_: object) -> float:
    return 3.0 * a.numel() * b.shape[-2]


def _fourier(x: Tensor, dims: Sequence[int], out: Tensor) -> float:
    """The usual 5 n log2 n of a complex transform of n points, half of it where one side is real."""
    n = math.prod(max(x.shape[d], out.shape[d]) for d in dims)
    batch = x.numel() / math.prod(x.shape[d] for d in dims)
    return (5.0 if x.is_complex() and out.is_complex() else 2.5) * batch * n * math.log2(max(n, 2))


# What PyTorch's own registry misses; products count two operations, as there.
_MORE: dict[Any, Formula] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _aten._native_multi_head_attention: _multi_head,
    _aten._transformer_encoder_layer_fwd: _encoder_layer,
    _aten.mkldnn_rnn_layer: _rnn_layer,
    _aten._int_mm: _product,
    _aten.addbmm: _added_product,
    _aten._weight_int8pack_mm: _transposed_product,
    _aten._weight_int4pack_mm_for_cpu: _transposed_product,
    _aten.mv: _product_with_vector,
    _aten.dot: _product_with_vector,
    _aten.addmv: _added_product_with_vector,
    _aten._cdist_forward: _distances,
}
_FOURIER = {_aten._fft_r2c, _aten._fft_c2c, _aten._fft_c2r}
_GATHERS = {_aten.embedding, _aten.index_select, _aten.gather, _aten.index, _aten._embedding_bag}
_PLAIN = {int, float, bool, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format, str}
_MOST_SHAPES = 4096
_EVERY_S = 0.001
"""Time is looked at no more often than that (seconds)."""
_NO_TRAFFIC = {_aten._unsafe_view, _aten.detach, _aten.empty, _aten.lift_fresh, _aten.empty_like, _aten.empty_strided}


class OpMeter(TorchDispatchMode):
    """Counts the operators that run under it, backward passes included.

    `flops` are those of products, convolutions, attention, recurrent layers and Fourier transforms: a multiply-add is
    two, as PyTorch's counter and the closed forms of `cost.decoder` have it; a causal mask saves nothing. `pointwise`
    is apart: an operation for each element that any other operator writes. `bytes_moved` is what each operator reads
    and writes if nothing stays in a cache (a gather reads what it returns, a view moves nothing); `peak_bytes` is the
    memory allocated at the worst moment, without what was there before. An operator of another package whose products
    nobody has told about makes `flops` NaN.

    With a meter, nothing is computed that it refuses: where a budget limits FLOPs or bytes the shapes are worked out
    before the operator runs. At the end all that was spent is charged to the meter under `role`.

    Args:
        meter: who pays, if anyone.
        role: what for.

    Attributes:
        by_op: FLOPs by operator.

    >>> with OpMeter() as ops:
    ...     _ = torch.ones(3, 4) @ torch.ones(4, 5)
    >>> ops.flops, ops.bytes_moved
    (120.0, 316.0)
    """

    def __init__(self, meter: Meter | None = None, role: Role = "tune") -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.flops = self.pointwise = self.bytes_moved = self.peak_bytes = 0.0
        self.by_op: dict[str, float] = {}
        self._meter = meter
        self._role: Role = role
        self._depth, self._live, self._asked = 0, 0.0, -math.inf
        self._held: dict[StorageWeakRef, int] = {}
        self.wall_s = self.joules = 0.0

    def __enter__(self) -> OpMeter:
        self._depth += 1
        if self._depth > 1:
            return super().__enter__()
        self._energy, self._clock, self._busy = EnergyMeter(), time.perf_counter(), time.process_time()
        meter = self._meter
        self._foresees = meter is not None and any(
            math.isfinite(meter.left(axis)) for axis in ("flops", "bytes_moved", "peak_bytes")
        )
        self._timed = meter is not None and math.isfinite(meter.left("wall_s"))
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # pyright: ignore[reportUnknownMemberType]
        self._depth -= 1
        if self._depth:
            return
        self.wall_s += time.perf_counter() - self._clock
        self.joules += self._energy.since_last(time.process_time() - self._busy).mid
        if self._meter is not None:
            spent = self.cost
            if self._foresees:  # the operators have been charged one by one
                spent = Cost(wall_s=spent.wall_s, joules=spent.joules)
            self._meter.charge(spent, self._role)

    @property
    def cost(self) -> Cost:
        """What was spent; tokens and dollars are not a module's to spend."""
        return Cost(
            flops=self.flops,
            bytes_moved=self.bytes_moved,
            peak_bytes=self.peak_bytes,
            wall_s=self.wall_s,
            joules=self.joules,
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and count it."""
        kwargs = {} if kwargs is None else kwargs
        if not isinstance(func, OpOverload):
            return func(*args, **kwargs)
        if _is_composite(cast(Any, func)):
            with self:  # these reach this far in inference mode
                return cast(Callable[..., Any], func.decompose)(*args, **kwargs)
        if self._timed and (now := time.perf_counter()) > self._asked + _EVERY_S:
            self._asked = now
            cast(Meter, self._meter).admit(FREE).release()
        hold = None
        if self._foresees:
            hold = cast(Meter, self._meter).admit(_foreseen(func, args, kwargs))
        out = cast(Callable[..., Any], func)(*args, **kwargs)
        flops, pointwise, moved = _spent(func, args, kwargs, out)
        self.flops += flops
        self.pointwise += pointwise
        self.bytes_moved += moved
        if flops:
            name = str(func.overloadpacket)
            self.by_op[name] = self.by_op.get(name, 0.0) + flops
        if not func.is_view:
            self._watch(out, (args, kwargs) if _may_return_what_was_given(cast(Any, func)) else ())
        if hold is not None:
            hold.settle(Cost(flops=flops, bytes_moved=moved, peak_bytes=self._live), self._role)
        return out

    def _watch(self, out: object, given: object) -> None:
        """Follow the memory of what an operator returned; what was given back is looked for at a new peak only."""
        for tensor in _tensors(out):
            if (storage := _storage(tensor)) is not None:
                watched = StorageWeakRef(storage)
                # What was there before, seen otherwise or written in place, allocates nothing.
                if watched not in self._held and watched not in {*map(_storage_ref, _tensors(given))}:
                    self._held[watched] = storage.nbytes()
                    self._live += storage.nbytes()
        if self._live > self.peak_bytes:
            self._held = {watched: nbytes for watched, nbytes in self._held.items() if not watched.expired()}
            self._live = float(sum(self._held.values()))
            self.peak_bytes = max(self.peak_bytes, self._live)


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operator is made of others that are counted, and has no formula of its own."""
    packet, c = func.overloadpacket, cast(Any, torch)._C
    key = c.DispatchKey.CompositeImplicitAutograd
    known = packet in flop_registry or packet in _MORE or packet in _FOURIER
    return not known and (key in func.py_kernels or c._dispatch_has_kernel_for_dispatch_key(func.name(), key))


@cache
def _may_return_what_was_given(func: Any) -> bool:
    """Whether it writes in place, or may return a view; what all others return is new."""
    return any(r.alias_info is not None for r in func._schema.returns)


def stored_bytes(module: nn.Module) -> int:
    """What a module's parameters and buffers take (bytes), each storage once; packed and quantised weights too."""
    held: dict[int, int] = {}
    state = list(plain_tensors(list(module.state_dict().values())))  # all alive at once, so that none shares an address
    for tensor in state:
        if tensor.is_quantized:  # with a scale and a zero point of 8 bytes each
            grids = tensor.q_per_channel_scales().numel() if _per_channel(tensor) else 1
            held[id(tensor)] = tensor.numel() * tensor.element_size() + 16 * grids
        else:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(held.values())


def _per_channel(tensor: Tensor) -> bool:
    return tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)


def plain_tensors(values: object) -> Iterator[Tensor]:
    """The plain tensors that a tree of tensors, and subclasses such as torchao's, is made of."""
    for value in _tensors(values):
        flatten = getattr(value, "__tensor_flatten__", None)
        if flatten is None:
            yield value.detach()
        else:
            for name in flatten()[0]:
                yield from plain_tensors(getattr(value, name))


def _tensors(values: object) -> list[Tensor]:
    """The tensors of a tree; arguments of operators are flat nearly always, and PyTorch's own walk takes far longer."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(cast(dict[object, object], values).values())
    if not isinstance(values, tuple | list):
        return []
    found: list[Tensor] = []
    for x in cast(Sequence[object], values):
        if type(x) not in _PLAIN:
            found += _tensors(x)
    return found


def _storage(tensor: Tensor) -> torch.UntypedStorage | None:
    """Where a tensor's values are; sparse and opaque ones have no such place."""
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return None


def _storage_ref(tensor: Tensor) -> StorageWeakRef | None:
    storage = _storage(tensor)
    return None if storage is None else StorageWeakRef(storage)


def _bytes(tensor: Tensor) -> float:
    """What reading or writing a tensor moves; an expanded one only what it holds."""
    size, storage = tensor.numel() * tensor.element_size(), _storage(tensor)
    return size if storage is None else min(size, storage.nbytes())


def _spent(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: object) -> tuple[float, float, float]:
    """FLOPs, pointwise operations and bytes moved of one operator."""
    packet = func.overloadpacket
    if func.is_view or packet in _NO_TRAFFIC:
        return 0.0, 0.0, 0.0
    returned = _tensors(out) or _changed(func, args, kwargs)
    read, written = sum(map(_bytes, _tensors([args, kwargs]))), sum(map(_bytes, returned))
    if func.namespace == "quantized":
        return _quantised(func, args, returned, read + written)
    if packet in _FOURIER:
        return _fourier(args[0], args[1], returned[0]), 0.0, read + written
    if packet in _MORE:
        return _MORE[packet](*args), 0.0, read + written
    if packet in flop_registry:
        return _registered(packet, args, kwargs, out), 0.0, read + written
    if packet in _GATHERS:
        return 0.0, 0.0, 2 * written
    known = func.namespace in ("aten", "prims", "prim", "profiler", "torchvision")
    pointwise = float(sum(x.numel() for x in returned if x.is_floating_point()))
    return 0.0 if known else math.nan, pointwise, read + written


_registered_flops: dict[object, float] = {}


def _registered(packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: object) -> float:
    """FLOPs by PyTorch's own formula, which takes longer than many an operator: once for the same shapes."""
    key = packet, tuple(map(_shape, (*args, *kwargs.items(), out)))
    if key not in _registered_flops:
        if len(_registered_flops) == _MOST_SHAPES:
            _registered_flops.clear()
        _registered_flops[key] = float(flop_registry[packet](*args, **kwargs, out_val=out))
    return _registered_flops[key]


def _shape(value: object) -> object:
    if isinstance(value, Tensor):
        return value.shape
    return tuple(map(_shape, cast(Sequence[object], value))) if isinstance(value, list | tuple) else value


def _changed(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What an operator that returns nothing writes in place, such as the weights in a step of an optimiser."""
    given = {a.name: value for a, value in zip(func._schema.arguments, args)} | dict(kwargs)
    written = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return _tensors([given[name] for name in written if name in given])


def _quantised(func: Any, args: tuple[Any, ...], out: Sequence[Tensor], moved: float) -> tuple[float, float, float]:
    """An operator over packed 8-bit weights, whose size follows from the shapes around it."""
    if "prepack" in func.name():
        return 0.0, 0.0, 2 * moved  # reads a weight and writes it in another order
    if "linear" not in func.name() or not out or not isinstance(args[0], Tensor):
        return math.nan, 0.0, math.nan
    inputs, outputs = args[0].shape[-1], out[0].shape[-1]
    return 2.0 * out[0].numel() * inputs, 0.0, moved + inputs * outputs


def _on_meta(value: object) -> object:
    return value.to("meta") if isinstance(value, Tensor) else value


def _foreseen(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Cost:
    """What an operator will spend, from its shapes; one that has none without values writes as much as it reads."""
    if func.namespace == "quantized" and "linear_dynamic" in func.name():
        weight, _ = args[1].unpack()
        shape = (*args[0].shape[:-1], len(weight))
        flops, _, moved = _spent(func, args, kwargs, torch.empty(shape, dtype=args[0].dtype, device="meta"))
        return Cost(flops=flops, bytes_moved=moved)
    try:
        on_meta = cast(
            tuple[tuple[Any, ...], dict[str, Any]],
            tree_map(_on_meta, (args, dict(kwargs))),
        )
        if "device" in on_meta[1]:
            on_meta[1]["device"] = torch.device("meta")
        out = func(*on_meta[0], **on_meta[1])
        flops, _, moved = _spent(func, *on_meta, out)
    except (NotImplementedError, RuntimeError, TypeError):
        return Cost(bytes_moved=0.0 if func.is_view else 2.0 * sum(map(_bytes, _tensors([args, kwargs]))))
    return Cost(flops=flops, bytes_moved=moved)
