"""Removing channels and heads so that modules get smaller; torch-pruning finds what depends on what."""

from __future__ import annotations

import copy
import gc
import importlib
import math
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves

from isoflop.cost.ops import OpMeter
from isoflop.method.compress.tuning import by_kind, refresh_norms
from isoflop.method.shrink import Data, Original, Refused, Shrunk, backward

_ROOTS = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)  # pyright: ignore[reportPrivateUsage]
_FEW = 12  # layers up to which each is tried alone
_TRIED = 0.5  # of the channels are kept in a trial
_EXAMPLES = 2
_SCORED = 512  # examples that tell what a channel matters, at most


def prunable(problem: Original) -> list[str]:
    """Names of layers whose channels can go: each kind is halved on a copy, which must still run and return its shapes.

    Raises:
        Refused: torch-pruning is not here, or no kind of layer passed; the message says what was tried.
    """
    if find_spec("torch_pruning") is None:
        raise Refused("needs torch-pruning; install isoflop[shrink]")
    names = [name for name, m in _modules(problem.module) if isinstance(m, _ROOTS)]
    inner = [name for name, m in _modules(problem.module) if _is_attention(m)]
    names = [name for name in names if not any(name.startswith(f"{a}.") for a in inner)]
    kinds = by_kind(names, _FEW)
    if not kinds:
        raise Refused("no linear, convolution or attention layer whose channels could be removed")
    passed: list[str] = []
    before = _shapes(problem.module, problem.calibration)
    whole = flops(problem.module, problem.calibration)
    for members in kinds.values():
        smaller = problem.copy()
        try:
            _cut(problem, smaller, members, _TRIED, learned=False)
            fits = _shapes(smaller, problem.calibration) == before and flops(smaller, problem.calibration) < whole
        except (RuntimeError, ValueError, AssertionError, AttributeError, IndexError, TypeError, KeyError):
            continue  # some module has its sizes written down, or does not divide
        passed += members if fits else []
    if not passed:
        raise Refused(
            f"no channels can be removed from any of {', '.join(kinds)} without changing what the model returns"
        )
    return passed


def ever_thinner(
    problem: Original, ratio: float, tuned: Callable[[nn.Module], tuple[nn.Module, str]]
) -> Iterator[Shrunk]:
    """Ever thinner models, each cut from the one before once that was tuned, until no layer has channels to spare.

    A curve that was cut off goes on from the last of them.

    Args:
        problem: the model and who pays.
        ratio: of the channels that a cut leaves; the k-th leaves ratio^k of the original's.
        tuned: trains a model that was cut; returns what the next cut starts from, and what to say of it.

    Raises:
        Refused: nothing can be removed.
    """
    with problem.spending():
        names = prunable(problem)
    widest = max(names, key=lambda name: _width(problem.module.get_submodule(name)))
    whole, width = flops(problem.module, problem.calibration), _width(problem.module.get_submodule(widest))
    model = problem.copy() if problem.begun is None else copy.deepcopy(problem.begun)
    kept = ratio ** round(math.log(_width(model.get_submodule(widest)) / width, ratio))
    while (kept := kept * ratio) * width >= 1:
        with problem.spending():
            smaller = pruned(problem, model, names, kept)
        if smaller is None:
            continue  # too small a step for layers of so few channels
        model, words = tuned(smaller)
        left = flops(model, problem.calibration) / whole
        yield Shrunk(model, f"{kept:.3g} of the channels of {len(names)} layers, {left:.3f}x FLOPs{words}")


def pruned(problem: Original, model: nn.Module, names: list[str], kept_fraction: float) -> nn.Module | None:
    """A copy of a model with a fraction of the original's channels in some layers: those that matter most.

    Args:
        problem: the original, by whose widths the fraction is meant, and its data.
        model: the original itself, or what earlier cuts have left of it.
        names: the layers.
        kept_fraction: of the original's channels; never less than one channel, or one a head.

    Returns:
        None where that removes none.
    """
    smaller = copy.deepcopy(model)
    _cut(problem, smaller, names, kept_fraction, learned=True)
    refresh_norms(problem, smaller)
    fell = flops(smaller, problem.calibration) < flops(model, problem.calibration)
    return smaller.eval() if fell else None


def flops(model: nn.Module, data: Data) -> float:
    """Of two examples; what counting spends is not charged, as it is the counter's own."""
    with torch.no_grad(), OpMeter() as ops:
        model(*data.rows(slice(_EXAMPLES)).inputs)
    return ops.flops


def _cut(problem: Original, model: nn.Module, names: list[str], kept_fraction: float, learned: bool) -> None:
    tp: Any = importlib.import_module("torch_pruning")
    some = problem.calibration.rows(slice(_EXAMPLES))
    importance = tp.importance.GroupTaylorImportance() if learned else tp.importance.GroupMagnitudeImportance(p=2)
    model.requires_grad_(True)
    with torch.enable_grad(), _quietly():
        pruner = tp.pruner.BasePruner(
            model,
            example_inputs=some.inputs,
            forward_fn=_called,  # else an exhausted budget is taken for a wrong call, and another one is tried
            importance=importance,
            pruning_ratio=0.0,
            pruning_ratio_dict=_removed(problem, model, names, kept_fraction),
            root_module_types=list(_ROOTS),
        )
        if learned:
            _differentiate(problem, model)
        pruner.step()
    model.zero_grad(set_to_none=True)


def _called(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    return model(*inputs)


def _removed(problem: Original, model: nn.Module, names: list[str], kept_fraction: float) -> dict[nn.Module, float]:
    """The share of each layer's channels that must go so that a fraction of the original's is left."""
    attention = [cast(Any, m) for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    heads: dict[int, int] = {m.embed_dim: m.num_heads for m in attention}  # what is as wide may be added to it
    ratios: dict[nn.Module, float] = {}
    for name in names:
        layer, whole = model.get_submodule(name), _width(problem.module.get_submodule(name))
        each = heads.get(_width(layer), 1)
        wanted = max(round(kept_fraction * whole / each), 1) * each
        # A little more than the whole number, as torch-pruning rounds what is kept down.
        ratios[layer] = max(1 - (wanted + 1e-3) / _width(layer), 0.0)
    return ratios


def _width(layer: nn.Module) -> int:
    """The channels that a layer writes."""
    if isinstance(layer, nn.MultiheadAttention):
        return cast(Any, layer).embed_dim
    return cast(Tensor, layer.weight).shape[1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0]  # pyright: ignore[reportPrivateUsage]


def _differentiate(problem: Original, model: nn.Module) -> None:
    """Gradients of the loss, or of random sums of the outputs: imitation has none where nothing has changed yet."""
    loss, generator = problem.workload.loss, torch.Generator().manual_seed(0)
    for part in problem.calibration.spread(_SCORED).batches(problem.workload.batch):
        out = model(*part.inputs)
        if loss is not None and part.targets is not None:
            backward(loss(out, part.targets), model.parameters())
            continue
        leaves = [x for x in tree_leaves(out) if isinstance(x, Tensor) and x.is_floating_point()]
        backward(
            torch.stack([(x * torch.randn(x.shape, generator=generator)).sum() for x in leaves]).sum(),
            model.parameters(),
        )


def _shapes(model: nn.Module, data: Data) -> object:
    with torch.no_grad():
        leaves, tree = tree_flatten(model(*data.rows(slice(_EXAMPLES)).inputs))
    return [x.shape if isinstance(x, Tensor) else None for x in leaves], tree


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(cast(Iterator[tuple[str, nn.Module]], model.named_modules()))


def _is_attention(module: nn.Module) -> bool:
    """Attention of others: which rows of its projections belong to which head is not known, so they are left."""
    return "attention" in type(module).__name__.lower()


@contextmanager
def _quietly() -> Generator[None]:
    """Without its warnings; what it leaves in cycles is collected at the end, so that memory counts alike each time."""
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.enable()
        gc.collect()
