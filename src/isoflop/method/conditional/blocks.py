"""Where a model can be left early: its blocks, found by watching it run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from isoflop.cost.ops import OpMeter
from isoflop.method.shrink import Output, Refused, is_conditional


@dataclass(frozen=True)
class Chain:
    """Blocks of a model that run one after the other, each once.

    Args:
        blocks: their names in the order they run.
        flops: what each spends on one example, without the others (count).
        total: what the whole model spends on it (count).
    """

    blocks: tuple[str, ...]
    flops: tuple[float, ...]
    total: float

    def places(self, count: int) -> list[int]:
        """Up to `count` blocks after which a model can be left, about evenly spread over the FLOPs of the chain.

        A block that spends nothing belongs to the one before it, and after the last one nothing is saved.
        """
        spent, total = 0.0, sum(self.flops)
        found: list[tuple[int, float]] = []
        for i, flops in enumerate(self.flops[:-1]):
            spent += flops
            if 0 < spent < total and self.flops[i + 1] > 0:
                found.append((i, spent))
        if len(found) <= count:
            return [i for i, _ in found]
        wanted = [total * (n + 1) / (count + 1) for n in range(count)]
        return sorted({min(found, key=lambda at: abs(at[1] - w))[0] for w in wanted})


@dataclass
class _Call:
    name: str
    started: float
    flops: float = 0.0


def find_chain(module: nn.Module, inputs: Sequence[Tensor], names: str = "") -> Chain:
    """The blocks of a model: those named, or the longest list whose members run in order.

    Args:
        module: any.
        inputs: one example, each [1, ...].
        names: empty to look for them; the name of a ModuleList or Sequential; or names of two or more submodules, with
            spaces between them, in the order they run.

    Raises:
        Refused: there is no such chain, or the model is conditional already.
    """
    if is_conditional(module):
        raise Refused("the model is conditional already: which of its blocks run depends on the input")
    chains = _chains(module, inputs, names)
    if not chains:
        what = f"blocks {names!r} do not each run once and in order" if names else "no list of blocks that run in order"
        raise Refused(f"{what}; name the blocks in the field `blocks`, with spaces between them")
    return max(chains, key=lambda chain: (len([f for f in chain.flops if f]), sum(chain.flops)))


def find_chains(module: nn.Module, inputs: Sequence[Tensor], names: str = "") -> list[Chain]:
    """The outermost chains of a model in the order they run, such as an encoder's and a decoder's.

    Args:
        module: any.
        inputs: one example, each [1, ...].
        names: empty to look for them; or names of ModuleLists or Sequentials with spaces between them.

    Raises:
        Refused: there is none, or the model is conditional already.
    """
    if not names:
        longest = find_chain(module, inputs)
        return [chain for chain in _chains(module, inputs, "") if _alike(chain, longest, module)]
    return [find_chain(module, inputs, name) for name in names.split()]


def _alike(chain: Chain, longest: Chain, module: nn.Module) -> bool:
    """Lists of as large blocks, outside the longest one: of the same rank, as an encoder and a decoder are."""
    if chain == longest:
        return True
    inside = any(a.startswith(f"{b}.") or b.startswith(f"{a}.") for a in chain.blocks for b in longest.blocks)
    made_of_layers = len(list(module.get_submodule(chain.blocks[0]).modules())) > 1
    return all(chain.flops) and made_of_layers and not inside


def _chains(module: nn.Module, inputs: Sequence[Tensor], names: str) -> list[Chain]:
    lists = _lists(module, names)
    members = {name for blocks in lists for name in blocks}
    calls: list[_Call] = []
    with OpMeter() as ops, ExitStack() as hooks:
        under_way: list[_Call] = []

        def enter(name: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                under_way.append(_Call(name, ops.flops))
                calls.append(under_way[-1])

            return hook

        def leave(*_: Any) -> None:
            call = under_way.pop()
            call.flops = ops.flops - call.started

        for name in members:
            block = module.get_submodule(name)
            hooks.callback(block.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(block.register_forward_hook(leave).remove)
        with torch.no_grad():
            module(*inputs)
    return [chain for blocks in lists if (chain := _in_order(blocks, calls, ops.flops)) is not None]


def _lists(module: nn.Module, names: str) -> list[list[str]]:
    if len(names.split()) > 1:
        return [_known(module, names.split())]
    if names:
        (name,) = _known(module, [names])
        return [[f"{name}.{member}" for member, _ in module.get_submodule(name).named_children()]]
    return [
        [f"{name}.{member}" if name else member for member, _ in part.named_children()]
        for name, part in submodules(module).items()
        if isinstance(part, nn.ModuleList | nn.Sequential) and len(part) > 1
    ]


def _known(module: nn.Module, names: list[str]) -> list[str]:
    known = submodules(module)
    for name in names:
        if name not in known:
            raise Refused(f"the model has no submodule {name!r}; it has {', '.join(n for n in list(known)[1:13])}, ...")
    return names


def _in_order(blocks: list[str], calls: list[_Call], total: float) -> Chain | None:
    """The chain of some blocks, if each was called once and one after the other."""
    made = [call for call in calls if call.name in set(blocks)]
    if len(blocks) < 2 or [call.name for call in made] != blocks:
        return None
    return Chain(tuple(blocks), tuple(call.flops for call in made), total)


def submodules(module: nn.Module) -> dict[str, nn.Module]:
    """Every submodule by name, the module itself as the empty one."""
    return dict(cast(Iterable[tuple[str, nn.Module]], module.named_modules()))


def hidden_of(output: Output) -> Tensor:
    """What a block passes on: the first floating-point tensor of what it returns.

    Raises:
        Refused: there is none.
    """
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return leaf
    raise Refused("a block returns no floating-point tensor")


class _LeftError(Exception):
    """Ends a forward pass; nothing after the block that raised it is computed."""


Visit = Callable[[Tensor, Tensor], bool]
"""Gets what entered a block and what left it, each [B, ...]; whether to end the forward pass there."""


def walk(trunk: nn.Module, places: Sequence[str], inputs: Sequence[Tensor], visit: Visit) -> Output | None:
    """Run a model and look in after some of its blocks.

    Args:
        trunk: the model.
        places: names of blocks, in the order they run.
        inputs: its arguments, each [B, ...].
        visit: called after each of them.

    Returns:
        The model's output; None if `visit` ended the pass before it was computed.
    """
    with _watched(trunk, places, visit):
        try:
            return trunk(*inputs)
        except _LeftError:
            return None


@contextmanager
def _watched(trunk: nn.Module, places: Sequence[str], visit: Visit) -> Generator[None]:
    # Hooks live for one pass only: a saved model has none, and may be changed by other methods in between.
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Output) -> None:
        if visit(hidden_of((args, kwargs)), hidden_of(output)):
            raise _LeftError

    with ExitStack() as hooks:
        for name in places:
            hooks.callback(trunk.get_submodule(name).register_forward_hook(hook, with_kwargs=True).remove)
        yield
