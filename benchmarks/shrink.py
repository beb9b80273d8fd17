"""`isoflop.shrink` beside torchao, torch-pruning, optimum-quanto and NNCF: same model, same floor, same machine.

    python -m benchmarks.shrink [model ...] [--budget SECONDS]

The models are those of `isoflop.example`: digits (a CNN), sentences (MiniLM), pitch (CREPE tiny: to train the full one
takes hours, at 40 times the FLOPs). Each peer is used as its documentation says, at every setting that it has for a
CPU, and judged by the same rule as ours: the setting is chosen on dev examples and must be shown to hold the floor on
test examples. A peer that does not apply to a model, or whose settings all fall below the floor, stands at the
original (1.00).

A row is a floor and an axis; cells are the cost of a use as a share of the original's. Latency is of all chosen models
in one interleaved run. The budget is that of the first row; each further one may add a quarter of it. Studies are kept
in `.isoflop/bench-shrink`: a second run pays for nothing again, and times again when the machine is quiet; as it knows
of more looks at test, it may choose more carefully.
"""

from __future__ import annotations

import copy
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import nncf
import numpy as np
import optimum.quanto
import torch
import torch_pruning as tp
from optimum.quanto import freeze, qint4, qint8, quantize
from torch import nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

from isoflop.cost import Axis, Meter
from isoflop.example import digits, pitch, sentences
from isoflop.example.sentences import HEADS, Attention
from isoflop.frontier import Estimate
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk, Workload
from isoflop.run.shrink import ShrinkStudy, shrink
from isoflop.run.shrink.latency import latencies

MODELS: dict[str, Callable[[], tuple[nn.Module, Workload]]] = {
    "digits": lambda: (digits.build(), digits.workload()),
    "sentences": lambda: (sentences.build(), sentences.workload()),
    "pitch": lambda: (pitch.build("tiny"), pitch.workload()),
}
BUDGETS_S = {"digits": 450.0, "sentences": 300.0, "pitch": 400.0}
FLOORS = ("0.9x", "0.95x", "0.99x")  # the lowest first: what was made for it serves the others
RANKED: tuple[Axis, ...] = ("wall_s", "flops", "bytes_moved", "peak_bytes")
KEPT = Path(".isoflop") / "bench-shrink"
QUANTO_LOCK = Path(optimum.quanto.__file__).parent / "library/extensions/cpp/build/lock"
MORE = 0.25
"""What each further floor and axis may add to the first one's budget (share)."""


class Peer(ShrinkMethod):
    """A package used as its documentation says: a module for each of its settings.

    What it spends is not counted operator by operator, as its cost once is not compared here.
    """

    source, cost, buys = "its documentation", "its own", "nothing promised here"

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield what the package makes of the module; a setting that fails is left out."""
        worked = False
        for name, make in self.settings(problem).items():
            try:
                made = make(problem.copy())
                made(*problem.calibration.rows(slice(0, 2)).inputs)
                pickle.dumps(made)
            except Exception as error:  # each package fails in its own ways
                print(f"  {self.label()} {name}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
                continue
            worked = True
            yield Shrunk(made, name)
        if not worked:
            raise Refused("none of its settings applies")

    def settings(self, problem: Original) -> dict[str, Callable[[nn.Module], nn.Module]]:
        raise NotImplementedError


@final
@dataclass(frozen=True)
class Torchao(Peer):
    """`quantize_(model, config)` with both configurations that have kernels for this CPU."""

    def settings(self, problem: Original) -> dict[str, Callable[[nn.Module], nn.Module]]:
        def quantised(config: Any) -> Callable[[nn.Module], nn.Module]:
            def make(model: nn.Module) -> nn.Module:
                quantize_(model, config)
                for module in model.modules():
                    vars(module).pop("extra_repr", None)  # with it nothing of torchao's can be pickled
                return model

            return make

        whole = {"int8 weights": Int8WeightOnlyConfig(), "int8 dynamic": Int8DynamicActivationInt8WeightConfig()}
        return {name: quantised(config) for name, config in whole.items()}


@final
@dataclass(frozen=True)
class Quanto(Peer):
    """`quantize(model, weights=...)`, then `freeze(model)`."""

    def settings(self, problem: Original) -> dict[str, Callable[[nn.Module], nn.Module]]:
        def quantised(kind: Any) -> Callable[[nn.Module], nn.Module]:
            def make(model: nn.Module) -> nn.Module:
                quantize(model, weights=kind)
                freeze(model)
                return model

            return make

        return {"int8 weights": quantised(qint8), "int4 weights": quantised(qint4)}


class Whole(nn.Module):
    """A module as the part of one: NNCF adds its own parts to the root, which an nn.Sequential would then call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.net(*inputs)


@final
@dataclass(frozen=True)
class Nncf(Peer):
    """`nncf.compress_weights(model)` and `nncf.quantize(model, dataset)`, timed in PyTorch as all here.

    Its documentation then exports to OpenVINO, another runtime; what that would make of every model is not compared.
    """

    def settings(self, problem: Original) -> dict[str, Callable[[nn.Module], nn.Module]]:
        batches = [part.inputs for part in problem.calibration.rows(slice(0, 128)).batches(16)]
        data = nncf.Dataset(batches, lambda inputs: inputs if len(inputs) > 1 else inputs[0])
        return {
            "int8 weights": lambda model: nncf.compress_weights(Whole(model), dataset=data),
            "int8": lambda model: nncf.quantize(Whole(model), data),
        }


@final
@dataclass(frozen=True)
class TorchPruning(Peer):
    """Groups of least norm removed, heads kept alike; fine-tuned on calibration data with targets and a loss."""

    epochs: int = 2

    def settings(self, problem: Original) -> dict[str, Callable[[nn.Module], nn.Module]]:
        return {f"{ratio:.0%} removed": self._pruned(problem, ratio) for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}

    def _pruned(self, problem: Original, ratio: float) -> Callable[[nn.Module], nn.Module]:
        def make(model: nn.Module) -> nn.Module:
            example = problem.calibration.rows(slice(0, 1)).inputs
            last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
            importance = tp.importance.GroupMagnitudeImportance(p=2)
            attention = [m for m in model.modules() if isinstance(m, Attention)]
            heads = {part: HEADS for m in attention for part in (m.query, m.key, m.value)}
            pruner = tp.pruner.BasePruner(
                model, example, importance, pruning_ratio=ratio, ignored_layers=last, num_heads=heads
            )
            pruner.step()
            return self._tuned(problem, model)

        return make

    def _tuned(self, problem: Original, model: nn.Module) -> nn.Module:
        loss, data = problem.workload.loss, problem.calibration
        if loss is None or data.targets is None:
            return model.eval()
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        model.train()
        for _ in range(self.epochs):
            for part in data.batches(64):
                value = loss(model(*part.inputs), part.targets)
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
        return model.eval()


PEERS = (Torchao(), TorchPruning(), Quanto(), Nncf())


def main() -> None:
    """Print the table of every model named, or of all."""
    torch.set_num_threads(1)
    words = sys.argv[1:]
    asked = float(words.pop(words.index("--budget") + 1)) if "--budget" in words else None
    names = [w for w in words if w != "--budget"] or list(MODELS)
    if unknown := [w for w in names if w not in MODELS]:
        sys.exit(f"unknown {', '.join(unknown)}; the models are {', '.join(MODELS)}")
    if QUANTO_LOCK.exists():
        sys.exit(
            f"{QUANTO_LOCK} is there: a process builds quanto's extension, or was killed while it did. "
            "Wait for the one that does, or remove the file; quanto itself would wait for ever"
        )
    for name in names:
        compare(name, asked or BUDGETS_S[name])


def compare(name: str, budget: float) -> None:
    """All floors and axes of one model."""
    model, task = MODELS[name]()
    print(f"\n{name}: {type(model).__name__}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    columns = ["isoflop", *(p.label() for p in PEERS)]
    print(f"{'floor':6} {'axis':11} " + " ".join(f"{c:>22}" for c in columns) + "  on the frontier", flush=True)
    limit = budget
    for floor in FLOORS:
        for axis in RANKED:
            studies = [_study(name, model, task, floor, axis, peer, limit) for peer in (None, *PEERS)]
            limit += MORE * budget
            shares = _shares(studies, axis)
            ours, best = shares[0], min(s.value for s in shares[1:])
            on = ours.value <= best or (axis == "wall_s" and ours.low <= best)
            cells = " ".join(f"{_cell(study, share):>22}" for study, share in zip(studies, shares, strict=True))
            print(f"{floor:6} {axis:11} {cells}  {'yes' if on else 'NO'}", flush=True)


def _study(
    name: str, model: nn.Module, task: Workload, floor: str, axis: Axis, peer: Peer | None, budget: float
) -> ShrinkStudy:
    folder = KEPT / name / ("isoflop" if peer is None else peer.label())
    only: dict[str, Any] = {} if peer is None else {"only": [peer]}
    # Folders are shared by floors and axes, so each may add what it needs to what the others have paid for.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return shrink(copy.deepcopy(model), task, floor, 1e9, f"wall_s={budget}", axis=axis, folder=folder, **only)


def _shares(studies: list[ShrinkStudy], axis: Axis) -> list[Estimate]:
    """The chosen models' cost of a use beside the original's; latency of all of them in one run."""
    if axis != "wall_s":
        return [study.share(study.chosen, axis) for study in studies]
    dev = studies[0].workload.dev
    modules = [studies[0].original.module(), *(study.best.module for study in studies)]
    found = latencies(modules, dev.spread(32), rounds=15, at_most_s=20)
    if trouble := found[0].trouble:
        print(f"  {trouble}", file=sys.stderr)
    one = Estimate(1.0, 1.0, 1.0)
    return [one if s.chosen is s.original else f.ratio for s, f in zip(studies, found[1:], strict=True)]


def _cell(study: ShrinkStudy, share: Estimate) -> str:
    if study.chosen is study.original:
        return "1.00 do nothing"
    doubt = "" if share.high - share.low < 0.01 or math.isnan(share.low) else f" [{share.low:.2f},{share.high:.2f}]"
    return f"{share.value:.2f}{doubt}"


if __name__ == "__main__":
    main()
