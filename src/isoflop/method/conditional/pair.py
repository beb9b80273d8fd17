"""A little and a big model for the same task: where they come from, and what each spends."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from isoflop.cost.ops import OpMeter
from isoflop.method.conditional.exits import one_tensor
from isoflop.method.shrink import Original, Refused


@dataclass(frozen=True)
class Pair:
    """Two models for one task.

    Args:
        little: the cheaper one.
        big: the better one.
        little_flops: what it spends on one example (count).
        big_flops: the same of the big one (count).
    """

    little: nn.Module
    big: nn.Module
    little_flops: float
    big_flops: float


def find_pair(problem: Original, little: str) -> Pair:
    """The pair to choose between.

    With `little` named, it is that one and the model. Without, the model must have been made cheaper by another method
    already: then that is the little one, and the user's own is the big one.

    Args:
        problem: who pays for measuring them.
        little: empty, or where it is built: `package.module:function`, and words to call it with behind more colons.

    Raises:
        Refused: there is no second model, it is not cheaper, or it answers in another shape.
    """
    if little:
        small, big = _built(little), problem.copy()
    elif problem.teacher is not problem.module:
        small, big = problem.copy(), problem.teacher
    else:
        raise Refused(
            "no second model; name one in the field `little` as package.module:function, or let another method make "
            "the model cheaper first"
        )
    example = problem.calibration.rows(slice(0, 1)).inputs
    with problem.spending("tune"), torch.no_grad():
        (small_out, small_flops), (big_out, big_flops) = _measured(small, example), _measured(big, example)
    if small_out.shape != big_out.shape:
        raise Refused(f"the two models answer in shapes {tuple(small_out.shape)} and {tuple(big_out.shape)}")
    if not small_flops < big_flops:
        raise Refused(f"the little model takes {small_flops:g} FLOPs and the big one {big_flops:g}; it is not cheaper")
    return Pair(small, big, small_flops, big_flops)


def _measured(module: nn.Module, example: Sequence[Tensor]) -> tuple[Tensor, float]:
    with OpMeter() as ops:
        output = one_tensor(module(*example))
    return output, ops.flops


def _built(where: str) -> nn.Module:
    module, _, call = where.partition(":")
    name, *words = call.split(":")
    try:
        build = cast(Callable[..., object], getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused(f"little={where!r} cannot be imported: {error}; write package.module:function") from error
    made = build(*words)
    if not isinstance(made, nn.Module):
        raise Refused(f"little={where!r} gives {type(made).__name__}, not an nn.Module")
    return made.eval()
