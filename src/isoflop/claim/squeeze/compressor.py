"""The architecture that computes most within a size, and distillation into it."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from isoflop.claim.base import Finding, Size, Value
from isoflop.claim.compressor import QUALITY, SECONDS
from isoflop.cost import Meter
from isoflop.cost.ops import stored_bytes
from isoflop.example import digits
from isoflop.method.compress.channels import flops
from isoflop.method.compress.compressor import CODE_ENCODERS, best_genome, encoder_fitness, evolved_genome
from isoflop.method.compress.compressor import Compressor as Method
from isoflop.method.shrink import Data, Original, Workload

_PAPERS = {"vocabulary": 1000, "heads": 8, "width": 96, "inner": 64, "layers": 12}  # for 3 MB, from its published code
_FITNESS, _MEGABYTES = 2.1915, 3
_SPACE = (("width", (6, 8, 12, 16, 20, 24)), ("depth", (1, 2, 3)), ("stride", (2, 4, 7)))
_KEPT = 0.07  # of the original's bytes
_NEAR = 0.9  # of the size, at least, of the student that is compared
_STEPS = {"quick": 60, "full": 400}
_EVOLVED = {"quick": 1, "full": 12}  # genetic searches


def student(width: int, depth: int, stride: int) -> nn.Module:
    """A plain convolutional network that reads digits: images [B, 1, 28, 28] to logits [B, 10].

    Args:
        width: channels of each layer (count).
        depth: layers after the first (count).
        stride: of the first layer, which sets how much the others compute at equal size (pixels).
    """
    layers: list[nn.Module] = [nn.Conv2d(1, width, 5, stride, 2), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * width, digits.CLASSES))


def findings(size: Size) -> list[Finding]:
    """The search, then the students."""
    model, work = digits.build(), digits.workload()
    return [*_searched(_EVOLVED[size]), *_compare(_students(model, work, _STEPS[size]))]


def _searched(evolved: int) -> list[Finding]:
    fitness, started = encoder_fitness(_MEGABYTES), time.process_time()
    genome, best = best_genome(CODE_ENCODERS, fitness)
    seconds = time.process_time() - started
    looks = 10_000
    found = [evolved_genome(CODE_ENCODERS, fitness, np.random.default_rng(seed), looks) for seed in range(evolved)]
    return [
        Finding(
            f"the best of {np.prod([len(c) for c in CODE_ENCODERS.values()])} genomes is the paper's, found by "
            f"computing every one in under {SECONDS:.0f} s of a processor",
            genome == _PAPERS and abs(best - _FITNESS) < 5e-5 and seconds < SECONDS,
            {"genome": str(list(genome.values())), "fitness": round(best, 4), "seconds": round(seconds, 2)},
        ),
        Finding(
            f"a genetic search of {looks} looks finds it too, at least once in {evolved} runs",
            any(g == _PAPERS for g, _ in found),
            {"fitness": [round(f, 4) for _, f in found], "found": sum(g == _PAPERS for g, _ in found)},
        ),
    ]


def _students(model: nn.Module, work: Workload, steps: int) -> dict[str, _Student]:
    """Each student trained as long: on outputs without labels, of most and of least FLOPs, and on labels alone."""
    unlabelled = replace(work, calibration=Data(work.calibration.inputs), loss=None)
    labelled = replace(work, imitation=_nothing)
    most = Method(f"{__name__}:{student.__name__}", _SPACE, (_KEPT,), steps=steps, batch=50)
    least = replace(most, space=tuple((name, (gene,)) for name, gene in _least(model, work).items()))
    arms = {
        "most FLOPs, distilled": (most, unlabelled),
        "least FLOPs, distilled": (least, unlabelled),
        "most FLOPs, on labels": (most, labelled),
    }
    found: dict[str, _Student] = {}
    whole = Original(model, work, Meter(), model).quality(model, work.test)
    for name, (method, given) in arms.items():
        meter = Meter()
        problem = Original(model, given, meter, model)
        (shrunk,) = method.run(problem, meter, np.random.default_rng(0))
        once = meter.spent.flops
        quality = problem.quality(shrunk.module, work.test)
        found[name] = _Student(quality, whole, shrunk.note, flops(shrunk.module, work.calibration), once)
    return found


@dataclass(frozen=True)
class _Student:
    """Accuracy of a student and of the original, what it is, FLOPs of two examples, and FLOPs spent once."""

    quality: float
    whole: float
    note: str
    flops: float
    once: float


def _nothing(student: Tensor, teacher: Tensor) -> Tensor:
    """Imitate nobody."""
    return student.sum() * 0


def _least(model: nn.Module, work: Workload) -> dict[str, int]:
    """Of the space's architectures of nearly the size, the one with least FLOPs."""
    limit = _KEPT * stored_bytes(model)
    found: list[tuple[float, dict[str, int]]] = []
    names = [name for name, _ in _SPACE]
    for genes in itertools.product(*(choices for _, choices in _SPACE)):
        genome = dict(zip(names, genes))
        candidate = student(**genome).eval()
        if _NEAR * limit <= stored_bytes(candidate) <= limit:
            found.append((flops(candidate, work.calibration), genome))
    return min(found, key=lambda f: f[0])[1]


def _compare(found: dict[str, _Student]) -> list[Finding]:
    most, least, labels = found.values()
    measured: dict[str, Value] = {f"accuracy, {name}": round(s.quality, 4) for name, s in found.items()}
    measured |= {"accuracy, original": round(most.whole, 4)}
    measured |= {f"student, {name}": s.note for name, s in found.items()}
    measured |= {f"MFLOP, {name}": round(s.flops / 2e6, 3) for name, s in found.items()}
    measured |= {f"once GFLOP, {name}": round(s.once / 1e9, 1) for name, s in found.items()}
    return [
        Finding(
            f"digits: the student of most FLOPs in {_KEPT:.0%} of the bytes keeps {QUALITY:.0%} of the accuracy",
            most.quality >= QUALITY * most.whole,
            measured,
        ),
        Finding(
            "digits: it is above the student of least FLOPs of its size",
            most.quality > least.quality,
            {"accuracy, most FLOPs": round(most.quality, 4), "accuracy, least FLOPs": round(least.quality, 4)},
        ),
        Finding(
            "digits: distilled without labels it is at least as good as trained as long on labels without the original",
            most.quality >= labels.quality,
            {"accuracy, distilled": round(most.quality, 4), "accuracy, on labels": round(labels.quality, 4)},
        ),
    ]
