"""A decoder compiled for the CPU that advances many sequences by one step, over paged keys and values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13
from openvino._offline_transformations import paged_attention_transformation

Floats = NDArray[np.float32]
KV_VALUE_BYTES = 4
"""Size of a number in the cache of keys and values (bytes)."""

Ints = NDArray[np.int64]

_ops: Any = opset13  # its stubs leave most types open

_CHUNK = 512  # logits are summed in chunks of at most this many, so that a draw looks at one chunk and not at all


@dataclass(frozen=True, slots=True)
class Logits:
    """What one step says about the next token of R sequences.

    Args:
        z: R x V logits.
        weights: R x V, exp((z - max) / temperature).
        sums: R x K sums of `weights` over equal chunks of the vocabulary.
        log_sum: R log-sum-exps of z.
    """

    z: Floats
    weights: Floats
    sums: Floats
    log_sum: Floats

    def draw(self, rows: Ints, uniforms: NDArray[np.float64], top_p: Sequence[float]) -> tuple[Ints, Floats]:
        """Tokens and their log-probabilities at temperature 1, one for each of `rows` (which may repeat).

        By inversion: the token at which the cumulative probability passes the uniform number. So a token depends on
        its row's logits and its own number only, and not on what else is in the batch, but for rounding.

        Args:
            rows: which row each draw is from.
            uniforms: in [0, 1); NaN for the most likely token.
            top_p: nucleus (fraction of the probability mass).
        """
        n_chunks = self.sums.shape[1]
        sums = self.sums[rows].astype(np.float64)
        cumulative = np.cumsum(sums, axis=1)
        total = cumulative[:, -1]
        target = np.minimum(np.nan_to_num(uniforms) * total, np.nextafter(total, 0))
        chunk = (cumulative <= target[:, None]).sum(1)
        inside = self.weights.reshape(len(self.weights), n_chunks, -1)[rows, chunk].astype(np.float64).cumsum(1)
        at = np.arange(len(rows))
        # The fraction of the chunk's mass, so that the chunk's sum need not agree to the last bit.
        share = (target - cumulative[at, chunk] + sums[at, chunk]) / sums[at, chunk]
        offset = (inside <= (share * inside[:, -1])[:, None]).sum(1)
        tokens = chunk * inside.shape[1] + np.minimum(offset, inside.shape[1] - 1)
        for i, row in enumerate(rows):
            if math.isnan(uniforms[i]):
                tokens[i] = self.z[row].argmax()
            elif top_p[i] < 1:
                tokens[i] = _draw_nucleus(self.weights[row], float(uniforms[i]), top_p[i])
        return tokens, self.z[rows, tokens] - self.log_sum[rows]

    def row(self, i: int) -> Logits:
        """A copy of one row, which outlives the step."""
        at = slice(i, i + 1)
        return Logits(self.z[at].copy(), self.weights[at].copy(), self.sums[at].copy(), self.log_sum[at].copy())

    def at_temperature(self, temperature: float) -> Logits:
        """The same logits, weighted for another temperature."""
        weights = np.exp((self.z - self.z.max(1, keepdims=True)) * np.float32(1 / temperature))
        sums = weights.reshape(*self.sums.shape, -1).sum(2)
        return Logits(self.z, weights, sums, self.log_sum)


def _draw_nucleus(weights: Floats, uniform: float, top_p: float) -> int:
    p: NDArray[np.float64] = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    # Tokens rarer than this weigh less than 1 - top_p together, so none is in the nucleus; few are left to sort.
    candidates: Ints = np.flatnonzero(p >= (1 - top_p) / len(p))
    order: Ints = candidates[np.argsort(-p[candidates], kind="stable")]
    cumulative = np.cumsum(p[order])
    last = min(int(np.searchsorted(cumulative, top_p)), len(order) - 1)
    chosen = int(np.searchsorted(cumulative, uniform * cumulative.item(last), side="right"))
    return order.item(min(chosen, last))


@dataclass(frozen=True, slots=True)
class Run:
    """What one sequence computes in a step.

    Args:
        cached: tokens before (count).
        tokens: to compute.
        blocks: of its keys and values, in order.
        temperature: of the draw from its last logits; None if those are not wanted.
    """

    cached: int
    tokens: Sequence[int] | Ints
    blocks: Sequence[int]
    temperature: float | None = 1.0


class Graph:
    """A compiled decoder that advances many sequences by any number of tokens in one call.

    Args:
        model: its description (OpenVINO IR, as converted from GGUF).
        kv_bytes: room for keys and values (bytes of address space; memory is taken as it is used).
        threads: to compute with (count); 0 for all cores.
    """

    def __init__(self, model: Path, kv_bytes: int, threads: int = 0) -> None:
        core: Any = openvino.Core()
        graph: Any = core.read_model(model)
        paged_attention_transformation(graph)
        _sample_ready(graph)
        properties: dict[str, Any] = {
            # In half precision, 12 of 96 samples of SmolLM2 came out otherwise in another batch; so, none.
            "KV_CACHE_PRECISION": "f32",
            # Cores with bfloat16 would compute in it, which changes samples, and refuse such a cache.
            "INFERENCE_PRECISION_HINT": "f32",
            # Activations stay in full precision: rounding them to 8 bits changes samples, and is 1.4 times slower on a
            # core without 8-bit dot products.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled: Any = core.compile_model(graph, "CPU", properties)
        self._request: Any = compiled.create_infer_request()
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        caches = [i for i in compiled.inputs if "_cache." in i.any_name]
        shapes = [[d.get_length() for d in list(i.partial_shape)[1:]] for i in caches]
        self.block_tokens: int = shapes[0][1]
        sizes = [i.element_type.size * math.prod(shape) for i, shape in zip(caches, shapes)]
        self.block_bytes: int = sum(sizes)
        self.n_blocks = max(kv_bytes // self.block_bytes, 4)
        self._tensors = [
            openvino.Tensor(i.element_type, openvino.Shape([self.n_blocks, *shape])) for i, shape in zip(caches, shapes)
        ]
        for port, tensor in zip(caches, self._tensors):
            self._request.set_tensor(port, tensor)
        self._caches: list[NDArray[Any]] = [tensor.data for tensor in self._tensors]

    def copy_block(self, source: int, target: int) -> None:
        """Copy the keys and values of a block."""
        for cache in self._caches:
            cache[target] = cache[source]

    def step(self, runs: Sequence[Run]) -> Logits:
        """Compute, and return the last logits of each run that wants them, in order; valid until the next step."""
        lengths = [len(run.tokens) for run in runs]
        ends = np.cumsum(lengths)
        used = [run.blocks[: -(-(run.cached + n) // self.block_tokens)] for run, n in zip(runs, lengths)]
        wanted = [i for i, run in enumerate(runs) if run.temperature is not None]
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": np.concatenate([run.tokens for run in runs]).astype(np.int64),
            "position_ids": np.concatenate([np.arange(r.cached, r.cached + n) for r, n in zip(runs, lengths)]),
            "past_lens": np.array([run.cached for run in runs], np.int32),
            "subsequence_begins": np.concatenate([[0], ends]).astype(np.int32),
            "block_indices": np.concatenate(used).astype(np.int32),
            "block_indices_begins": np.concatenate([[0], np.cumsum([len(b) for b in used])]).astype(np.int32),
            "max_context_len": np.array(max(run.cached + n for run, n in zip(runs, lengths)), np.int32),
            "rows": (ends[wanted] - 1).astype(np.int64),
            "inverse_temperature": np.array([[1 / (runs[i].temperature or 1.0)] for i in wanted], np.float32),
        }
        inputs["inverse_temperature"] = inputs["inverse_temperature"].reshape(-1, 1)
        for name, value in inputs.items():
            self._request.set_tensor(name, openvino.Tensor(value))
        self._request.infer()
        return Logits(*(self._request.get_output_tensor(i).data for i in range(4)))


def _sample_ready(graph: Any) -> None:
    """Make the graph compute logits for chosen rows only, and what a draw needs, on all threads."""
    node = graph.get_results()[0].input_value(0).node
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).node
    rows = _ops.parameter([-1], np.int64, name="rows")
    inverse = _ops.parameter([-1, 1], np.float32, name="inverse_temperature")
    for parameter in (rows, inverse):
        parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    node.input(0).replace_source_output(_ops.gather(node.input_value(0), rows, _ops.constant(0, np.int64)).output(0))
    graph.add_parameters([rows, inverse])
    graph.validate_nodes_and_infer_types()
    logits = graph.get_results()[0].input_value(0)
    vocab = logits.partial_shape[2].get_length()
    chunk = max(size for size in range(1, min(_CHUNK, vocab) + 1) if vocab % size == 0)

    def constant(*values: int) -> Any:
        return _ops.constant(np.array(values, np.int64))

    z = _ops.reshape(_ops.convert(logits, "f32"), constant(-1, vocab), special_zero=False)
    top = _ops.reduce_max(z, constant(1), keep_dims=True)
    centred = _ops.subtract(z, top)
    log_sum = _ops.add(
        _ops.log(_ops.reduce_sum(_ops.exp(centred), constant(1), keep_dims=False)),
        _ops.reshape(top, constant(-1), special_zero=False),
    )
    weights = _ops.exp(_ops.multiply(centred, inverse))
    sums = _ops.reduce_sum(
        _ops.reshape(weights, constant(-1, vocab // chunk, chunk), special_zero=False), constant(2), keep_dims=False
    )
    graph.remove_result(graph.get_results()[0])
    graph.add_results([_ops.result(node) for node in (z, weights, sums, log_sum)])
    graph.validate_nodes_and_infer_types()
