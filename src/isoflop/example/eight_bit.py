"""A PyTorch model in eight bits, and its speed beside the same model in FP32."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor, nn

from isoflop.method.compress.linears import with_byte_weights
from isoflop.model.tiny.decoder import PAD, Decoder


def in_eight_bits(model: nn.Module) -> nn.Module:
    """A copy of a model whose linear layers hold their weights in int8, as `cast` has them, and multiply in bf16."""
    return with_byte_weights(copy.deepcopy(model))


def speeds(models: Sequence[nn.Module], inputs: tuple[Tensor, ...], rounds: int) -> list[list[float]]:
    """Tokens a CPU second of each model in each round, the models taking turns.

    Args:
        models: that take the inputs.
        inputs: the first are the tokens.
        rounds: turns (count).
    """
    found: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        calls = 0
        start = time.process_time()
        while time.process_time() - start < 0.2:  # as many calls a turn as take a fifth of a second
            models[0](*inputs)
            calls += 1
        for model in models[1:]:
            model(*inputs)
        for _ in range(rounds):
            for model, speed in zip(models, found, strict=True):
                start = time.process_time()
                for _ in range(calls):
                    model(*inputs)
                speed.append(calls * inputs[0].numel() / (time.process_time() - start))
    return found


def ratio(speeds: Sequence[Sequence[float]]) -> float:
    """The median over the rounds of the second model's speed over the first's."""
    return median(small / full for full, small in zip(*speeds, strict=True))


def answered(decoder: Decoder, prompts: Sequence[str]) -> list[str]:
    """The greedy response to each prompt, by plain passes over all that is there so far: slow, and as the model is."""
    a = decoder.architecture
    texts = list(prompts)
    with torch.inference_mode():
        for _ in range(a.context - a.prompt_room):
            T = max(map(len, texts))
            tokens = torch.tensor([a.encode(text) + [PAD] * (T - len(text)) for text in texts])
            positions = torch.tensor([a.positions(text) + [0] * (T - len(text)) for text in texts])
            logits = decoder(tokens, positions)[range(len(texts)), [len(text) - 1 for text in texts]]
            logits[:, PAD] = -torch.inf
            drawn = a.decode(logits.argmax(-1).tolist())
            texts = [t if t.endswith(a.response_end) else t + c for t, c in zip(texts, drawn, strict=True)]
            if all(text.endswith(a.response_end) for text in texts):
                break
    return [text.removeprefix(p).removesuffix(a.response_end) for p, text in zip(prompts, texts, strict=True)]
