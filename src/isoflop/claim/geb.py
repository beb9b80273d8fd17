"""Small models on CPUs: fast enough in FP32, and faster in eight bits?"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar, final

from isoflop.claim.base import Claim, CouldNotRunError, Finding, Size
from isoflop.model.base import ModelError
from isoflop.task.generate import generator

_TINY = "chain-132k"
_READING = 5.0  # tokens a second: about what a person reads
_LOSS = 0.01  # nats a token that eight bits may cost


@final
@dataclass(frozen=True)
class Geb(Claim):
    """GEB-1.3B (2024): a lightweight decoder is fast enough on CPUs in FP32, and quantisation is to make it faster.

    The abstract names neither a speed nor a quantiser ("commendable inference times", "ongoing efforts"); the bounds
    are ours: faster than a person reads, and eight bits faster than FP32 in the same program. Eight bits are those of
    `cast`: int8 weights a scale a row, multiplied in bf16. Models are our tiny decoder, which has GEB's parts, and at
    size `full` SmolLM2-135M, ten times smaller than GEB-1.3B; its weights are from a 4-bit file, so what eight bits
    lose of the original's may differ. Generating is one token for each of some sequences; the keys of earlier tokens
    are left out, as they are the same in both.
    """

    paper: ClassVar[str] = "GEB-1.3B: Open Lightweight Large Language Model (arXiv 2406.09900)"
    says: ClassVar[str] = (
        "in FP32 a lightweight model is fast on CPUs already, and quantising it is the way to make it faster still"
    )
    tested_by: ClassVar[str] = (
        f"tokens a CPU second in FP32 above {_READING:g}; those of the same model in int8 higher, at one sequence and "
        f"at many; and its loss at most {_LOSS} nats a token higher"
    )

    def findings(self, size: Size) -> list[Finding]:
        """On `tiny:chain-132k` and, at size `full`, on SmolLM2-135M."""
        eight_bit, weights = _imported("isoflop.example.eight_bit"), _imported("isoflop.model.tiny.weights")
        found = _of_the_tiny_decoder(eight_bit, weights.read(_TINY)[0], problems=40 if size == "quick" else 200)
        if size == "full":
            try:
                found += _of_smollm2(eight_bit, _imported("isoflop.example.prose", "examples"))
            except ModelError as error:
                raise CouldNotRunError(str(error)) from error
        return found


def _imported(module: str, extra: str = "tiny") -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CouldNotRunError(f"it needs {error.name}: pip install 'isoflop[{extra}]'") from error


def _of_the_tiny_decoder(eight_bit: Any, decoder: Any, problems: int) -> list[Finding]:
    torch, train = _imported("torch"), _imported("isoflop.model.tiny.train")
    small, task, name = eight_bit.in_eight_bits(decoder), generator("chain"), f"tiny:{_TINY}"
    found: list[Finding] = []
    for batch in (1, 256):
        inputs = (torch.ones(batch, 1, dtype=torch.long), torch.zeros(batch, 1, dtype=torch.long))
        found += _speed(eight_bit, [decoder, small], inputs, f"{name}, generating {batch} at a time")
    asked = [task.problem("test", i) for i in range(problems)]
    losses = [train.mean_loss(model, asked) for model in (decoder, small)]
    passed = [
        sum(map(task.grade, asked, eight_bit.answered(model, [p.prompt for p in asked]))) / problems
        for model in (decoder, small)
    ]
    found.append(_quality(name, losses, {"pass@1_fp32": passed[0], "pass@1_8bit": passed[1]}))
    return found


def _of_smollm2(eight_bit: Any, prose: Any) -> list[Finding]:
    torch, name = _imported("torch"), "SmolLM2-135M"
    full = prose.build()
    small, work = eight_bit.in_eight_bits(full), prose.workload(windows=8, tokens=128)
    one = (torch.ones(1, 1, dtype=torch.long),)
    (tokens,), following = work.test.inputs, work.test.targets
    found = _speed(eight_bit, [full, small], one, f"{name}, generating 1 at a time")
    found += _speed(eight_bit, [full, small], (tokens[:1],), f"{name}, reading 128 tokens")
    losses: list[float] = []
    with torch.inference_mode():
        for model in (full, small):
            parts = [prose.likelihood(model(tokens[i : i + 1]), following[i : i + 1]) for i in range(len(tokens))]
            losses.append(-float(torch.cat(parts).mean()))
    found.append(_quality(name, losses, {}))
    return found


def _speed(eight_bit: Any, models: list[Any], inputs: Any, what: str) -> list[Finding]:
    speeds = eight_bit.speeds(models, inputs, rounds=5)
    full, small = (median(rounds) for rounds in speeds)
    gain = eight_bit.ratio(speeds)
    return [
        Finding(
            f"{what}: FP32 is faster than a person reads", full >= _READING, {"fp32_tokens_per_cpu_s": round(full, 1)}
        ),
        Finding(
            f"{what}: eight bits are faster than FP32",
            gain > 1,
            {"8bit_tokens_per_cpu_s": round(small, 1), "8bit_over_fp32": round(gain, 3)},
        ),
    ]


def _quality(name: str, losses: list[float], more: dict[str, float]) -> Finding:
    full, small = losses
    measured = {"loss_fp32": round(full, 4), "loss_8bit": round(small, 4)}
    measured |= {"perplexity_fp32": round(math.exp(full), 4), "perplexity_8bit": round(math.exp(small), 4)}
    return Finding(f"{name}: eight bits cost at most {_LOSS} nats a token", small - full <= _LOSS, measured | more)
