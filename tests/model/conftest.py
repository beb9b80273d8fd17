"""A tiny GGUF file of random weights, written here, and the same decoder in plain numpy."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

LAYERS, D, HEADS, KV_HEADS, FF, EPS, BASE = 2, 64, 2, 1, 96, 1e-5, 10000.0
HEAD = D // HEADS
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "he l"]
TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_letters() -> list[str]:
    """The printable stand-ins that byte-level vocabularies use for the 256 bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)]


TOKENS = [*SPECIAL, *byte_letters(), *(m.replace(" ", "") for m in MERGES)]


def _text(s: str) -> bytes:
    return struct.pack("<Q", len(s.encode())) + s.encode()


def _value(v: object) -> bytes:
    """A metadata value with its kind."""
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + _text(v)
    assert isinstance(v, list)
    kind = 8 if isinstance(v[0], str) else 5
    items = b"".join(_text(x) if kind == 8 else struct.pack("<i", x) for x in v)
    return struct.pack("<IIQ", 9, kind, len(v)) + items


@dataclass
class Tiny:
    """A GGUF file and what is in it."""

    metadata: dict[str, object]
    weights: dict[str, np.ndarray]

    def write(self, path: Path) -> Path:
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.weights), len(self.metadata))
        head += b"".join(_text(k) + _value(v) for k, v in self.metadata.items())
        body = b""
        for name, w in self.weights.items():
            head += _text(name) + struct.pack(f"<I{w.ndim}Q", w.ndim, *reversed(w.shape))
            head += struct.pack("<IQ", 0 if w.ndim == 1 else 1, len(body))
            data = w.astype(np.float32 if w.ndim == 1 else np.float16).tobytes()
            body += data + b"\0" * (-len(data) % 32)
        path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
        return path

    def logits(self, tokens: list[int]) -> np.ndarray:
        """T x V logits, straight from the definition of the architecture."""
        w = self.weights
        x = w["token_embd.weight"][tokens].astype(np.float64)
        t = len(tokens)
        for i in range(LAYERS):
            n = _norm(x, w[f"blk.{i}.attn_norm.weight"])
            q = _rotated((n @ w[f"blk.{i}.attn_q.weight"].T).reshape(t, HEADS, HEAD))
            k = _rotated((n @ w[f"blk.{i}.attn_k.weight"].T).reshape(t, KV_HEADS, HEAD))
            v = (n @ w[f"blk.{i}.attn_v.weight"].T).reshape(t, KV_HEADS, HEAD)
            k, v = (np.repeat(a, HEADS // KV_HEADS, axis=1) for a in (k, v))
            scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(HEAD)
            scores[:, np.triu(np.ones((t, t), bool), 1)] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            mixed = np.einsum("hts,shd->thd", p, v).reshape(t, D)
            x = x + mixed @ w[f"blk.{i}.attn_output.weight"].T
            n = _norm(x, w[f"blk.{i}.ffn_norm.weight"])
            gate, up = n @ w[f"blk.{i}.ffn_gate.weight"].T, n @ w[f"blk.{i}.ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"blk.{i}.ffn_down.weight"].T
        return _norm(x, w["output_norm.weight"]) @ w["token_embd.weight"].T

    def log_probs(self, prompt: list[int], generated: list[int]) -> np.ndarray:
        """Of each generated token, at temperature 1."""
        z = self.logits(prompt + generated)[len(prompt) - 1 : -1]
        z = z - z.max(-1, keepdims=True)
        return (z - np.log(np.exp(z).sum(-1, keepdims=True)))[np.arange(len(generated)), generated]


def _norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight


def _rotated(x: np.ndarray) -> np.ndarray:
    """Rotary embedding on neighbouring pairs, as this architecture's files have it."""
    angle = np.arange(len(x))[:, None] * BASE ** (-np.arange(0, HEAD, 2) / HEAD)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """A chat model of random weights with a context of 160 tokens."""
    rng = np.random.default_rng(0)

    def half(w: np.ndarray) -> np.ndarray:
        return w.astype(np.float16).astype(np.float64)  # as OpenVINO keeps them, norms included

    def matrix(rows: int, columns: int) -> np.ndarray:
        return half(rng.normal(size=(rows, columns)) * 1.5 / np.sqrt(columns))

    weights = {"token_embd.weight": matrix(len(TOKENS), D)}
    for i in range(LAYERS):
        shapes = {
            "attn_q": (D, D),
            "attn_k": (KV_HEADS * HEAD, D),
            "attn_v": (KV_HEADS * HEAD, D),
            "attn_output": (D, D),
            "ffn_gate": (FF, D),
            "ffn_up": (FF, D),
            "ffn_down": (D, FF),
        }
        weights |= {f"blk.{i}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        weights |= {f"blk.{i}.{name}_norm.weight": half(rng.uniform(0.5, 1.5, D)) for name in ("attn", "ffn")}
    weights["output_norm.weight"] = half(rng.uniform(0.5, 1.5, D))
    metadata = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.block_count": LAYERS,
        "llama.context_length": 160,
        "llama.embedding_length": D,
        "llama.feed_forward_length": FF,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": EPS,
        "llama.rope.freq_base": BASE,
        "llama.rope.dimension_count": HEAD,
        "llama.vocab_size": len(TOKENS),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    return Tiny(metadata, weights)
