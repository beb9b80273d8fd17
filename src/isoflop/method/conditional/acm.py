"""Adaptive computation modules: each token goes through as many small learners of a layer as it needs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost import Meter
from isoflop.method.shrink import Conditional, Original, Refused, ShrinkMethod, Shrunk, backward

_GATE_WIDTH = 16
_SHARP = 1.0  # temperature of the gate's choice while it is trained


class AdaptiveModule(Conditional):
    """Learners whose outputs add up, and a gate that says for each token how many of the first of them it takes.

    Args:
        learners: each maps tokens [n, D] to [n, E].
        gate: maps tokens [n, D] to logits of taking 1, 2, ... learners [n, N].
    """

    def __init__(self, learners: Sequence[nn.Module], gate: nn.Module) -> None:
        super().__init__()
        self.learners, self.gate = nn.ModuleList(learners), gate

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [..., D] to [..., E]; only learners that a token takes are computed for it."""
        tokens = x.flatten(0, -2)
        return self.taking(tokens, self.gate(tokens).argmax(1) + 1).view(*x.shape[:-1], -1)

    def taking(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Tokens [n, D], each through the first `counts` [n] learners, 1 or more: [n, E]."""
        out = cast(Tensor, self.learners[0](tokens))
        for i in range(1, len(self.learners)):
            rows = (counts > i).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, self.learners[i](tokens[rows]))
        return out

    def slices(self, tokens: Tensor, apart: bool = False) -> Tensor:
        """What the first 1, 2, ... N learners make of tokens [n, D]: [N, n, E].

        Args:
            tokens: to compute.
            apart: let each learner refine what those before it made, which it does not change by gradients.
        """
        partial: list[Tensor] = []
        for learner in self.learners:
            before = partial[-1].detach() if apart and partial else (partial[-1] if partial else 0)
            partial.append(before + learner(tokens))
        return torch.stack(partial)


class Choosing(nn.Module):
    """An adaptive module while its gate is trained: all slices are computed, one is chosen with a gradient."""

    def __init__(self, module: AdaptiveModule, rng: torch.Generator) -> None:
        super().__init__()
        self.module, self.rng = module, rng
        self.odds = self.taken = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [..., D] to [..., E], with the slice drawn from the gate's odds, straight through."""
        tokens = x.flatten(0, -2)
        logits = cast(Tensor, self.module.gate(tokens))
        self.odds = logits.softmax(1)
        likeliest = functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
        self.taken = likeliest + self.odds - self.odds.detach()
        drawn = -(-torch.rand(logits.shape, generator=self.rng).clamp_min(1e-20).log()).log()
        soft = ((logits + drawn) / _SHARP).softmax(1)
        hard = functional.one_hot(soft.argmax(1), logits.shape[1]).to(soft.dtype) + soft - soft.detach()
        return torch.einsum("nk,kne->ne", hard, self.module.slices(tokens)).view(*x.shape[:-1], -1)


@final
@dataclass(frozen=True)
class Acm(ShrinkMethod):
    """Replace feed-forward networks by small learners of which each token takes as many as it needs.

    A feed-forward network is cut into N learners of its own hidden units, the largest first, so that all N together are
    what it was. Three phases, all imitating: (1) every learner is taught to refine the sum of those before it, in all
    layers at once, each layer apart on the inputs that the original gives it; (2) each gate is taught the smallest
    number of learners that comes near the layer's output; (3) the gates and learners are taught end to end with a price
    on the number taken, once for each budget. Beside multi-exits, which drop whole layers for whole examples, it drops
    width, token by token. It loses where all tokens are equally hard: then it is a narrower network.

    Applies to `nn.Sequential(nn.Linear, activation, nn.Linear)`, wherever in the model. The paper starts its learners
    anew and replaces projections as well, which needs more training than what is planned for here; its gate could take
    no learner at all, ours takes one or more. (Its published code drops the last learner that was chosen.)

    Cost: one pass to record, then `steps` steps over `batch` examples' tokens through all learners (phase 1), as many
        over the gates (2), and for each budget `steps` training steps of the whole model (3).
    Buys: FLOPs of the layers in proportion to the learners taken, plus a gate of (D + N) * 16 products a token.
    Args:
        learners: N, of each layer (count).
        budgets: learners taken on average (fraction of all), from dear to cheap.
        steps: of training in each phase (count).
        batch: calibration examples in a step (count).
        error: of a layer's output that its gate is first taught to allow (fraction of its norm).
        rate: learning rate.
        price: weight of missing the budget against imitating the original.
    """

    source = "acm"
    cost = "steps x (all replaced layers, forward and backward) + budgets x steps x (whole model, forward and backward)"
    buys = "FLOPs of feed-forward layers x (learners taken / learners), at no proven loss"

    learners: int = 4
    budgets: tuple[float, ...] = (0.75, 0.5, 0.35)
    steps: int = 200
    batch: int = 16
    error: float = 0.3
    rate: float = 1e-3
    price: float = 10.0

    def __post_init__(self) -> None:
        if self.learners < 2 or not self.budgets or not all(1 / self.learners <= b <= 1 for b in self.budgets):
            raise ValueError(f"learners={self.learners} must be 2 or more, and budgets within [1 / learners, 1]")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a model for each budget; see `ShrinkMethod.run`."""
        model = problem.copy()
        places = feed_forwards(model, self.learners)
        if not places:
            raise Refused(
                "no feed-forward network: none of its modules is nn.Sequential(nn.Linear, activation, nn.Linear) "
                f"with hidden units that {self.learners} learners can share"
            )
        draw = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.default_generator.manual_seed(int(rng.integers(2**31)))
            modules = [split(cast(nn.Sequential, model.get_submodule(name)), self.learners) for name in places]
        with problem.spending():
            recorded = recordings(problem.module, places, problem.calibration.inputs, problem.workload.batch)
        self._distil(problem, modules, recorded, draw)
        self._teach_gates(problem, modules, recorded, draw)
        for name, module in zip(places, modules):
            model.set_submodule(name, module)
        for budget in sorted(self.budgets, reverse=True):
            self._finish(problem, model, places, budget, draw)
            kept = copy.deepcopy(model).eval().requires_grad_(True)
            yield Shrunk(kept, f"{len(places)} layers of {self.learners} learners, {budget:.0%} of them meant")

    def _distil(
        self, problem: Original, modules: list[AdaptiveModule], recorded: list[Any], draw: torch.Generator
    ) -> None:
        """Phase 1: every slice of every layer towards the layer's output."""
        learned = [p for module in modules for p in module.learners.parameters()]
        optimizer: Any = torch.optim.Adam(learned, self.rate)
        for _ in problem.repeat(self.steps, "train"):
            losses: list[Tensor] = []
            for module, (inputs, outputs) in zip(modules, recorded):
                rows = self._rows(problem, inputs, draw)
                slices, wanted = module.slices(inputs[rows], apart=True), outputs[rows]
                losses.append(((slices - wanted) ** 2).mean() / wanted.var())
            _descend(optimizer, torch.stack(losses).sum())

    def _teach_gates(
        self, problem: Original, modules: list[AdaptiveModule], recorded: list[Any], draw: torch.Generator
    ) -> None:
        """Phase 2: the smallest slice that comes near enough, and all learners where none does."""
        optimizer: Any = torch.optim.Adam([p for module in modules for p in module.gate.parameters()], self.rate)
        for _ in problem.repeat(self.steps, "train"):
            losses: list[Tensor] = []
            for module, (inputs, outputs) in zip(modules, recorded):
                rows = self._rows(problem, inputs, draw)
                with torch.no_grad():
                    wanted = smallest_near(module.slices(inputs[rows]), outputs[rows], self.error)
                losses.append(functional.cross_entropy(module.gate(inputs[rows]), wanted - 1))
            _descend(optimizer, torch.stack(losses).sum())

    def _finish(
        self, problem: Original, model: nn.Module, places: list[str], budget: float, draw: torch.Generator
    ) -> None:
        """Phase 3: imitate the original end to end, at this many learners a token on average."""
        choosing = [Choosing(cast(AdaptiveModule, model.get_submodule(name)), draw) for name in places]
        for name, module in zip(places, choosing):
            model.set_submodule(name, module)
        learned = [p for module in choosing for p in module.parameters()]
        for p in model.parameters():
            p.requires_grad_(False)
        for p in learned:
            p.requires_grad_(True)
        optimizer: Any = torch.optim.Adam(learned, self.rate / 3)
        data = problem.calibration
        taken = torch.arange(1, self.learners + 1) / self.learners
        for _ in problem.repeat(self.steps, "train"):
            part = data.rows(torch.randint(len(data), (min(self.batch, len(data)),), generator=draw))
            with torch.no_grad():
                wanted = problem.teacher(*part.inputs)
            apart = problem.workload.imitation(model(*part.inputs), wanted)
            odds = torch.stack([module.odds for module in choosing])
            # What is held to the budget is the mean, over layers and tokens, of what will be taken, not of its odds.
            likeliest = torch.stack([module.taken for module in choosing]).mean((0, 1))
            over = ((likeliest * taken).sum() - budget) ** 2
            doubt = -(odds * (odds + 1e-9).log()).sum(2).mean()
            _descend(optimizer, apart + self.price * over + 0.01 * doubt)
        for name, module in zip(places, choosing):
            model.set_submodule(name, module.module)

    def _rows(self, problem: Original, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """As many tokens as `batch` examples have, drawn from all."""
        tokens = max(1, len(inputs) * self.batch // len(problem.calibration))
        return torch.randint(len(inputs), (min(tokens, len(inputs)),), generator=draw)


def feed_forwards(model: nn.Module, learners: int) -> list[str]:
    """Names of the feed-forward networks whose hidden units `learners` can share."""
    modules = cast(Iterator[tuple[str, nn.Module]], model.named_modules())
    return [
        name
        for name, part in modules
        if name
        and isinstance(part, nn.Sequential)
        and len(part) == 3
        and isinstance(part[0], nn.Linear)
        and isinstance(part[2], nn.Linear)
        and not list(part[1].parameters())
        and cast(nn.Linear, part[0]).out_features >= learners
    ]


def split(layer: nn.Sequential, learners: int) -> AdaptiveModule:
    """A feed-forward network as learners that add up to it, those of its largest hidden units first."""
    first, act, last = (cast(Any, part) for part in layer)
    size = first.weight.norm(dim=1) * last.weight.norm(dim=0)
    made: list[nn.Module] = []
    for units in torch.tensor_split(size.argsort(descending=True), learners):
        a = nn.Linear(first.in_features, len(units), bias=first.bias is not None)
        b = nn.Linear(len(units), last.out_features, bias=not made and last.bias is not None)
        with torch.no_grad():
            a.weight.copy_(first.weight[units])
            b.weight.copy_(last.weight[:, units])
            if first.bias is not None:
                a.bias.copy_(first.bias[units])
            if not made and last.bias is not None:
                b.bias.copy_(last.bias)
        made.append(nn.Sequential(a, act, b))
    gate = nn.Sequential(nn.Linear(first.in_features, _GATE_WIDTH), nn.ReLU(), nn.Linear(_GATE_WIDTH, learners))
    return AdaptiveModule(made, gate)


def smallest_near(slices: Tensor, wanted: Tensor, error: float) -> Tensor:
    """The smallest number of learners [n] whose slice [N, n, E] is within `error` of the output [n, E]; N if none is.

    >>> slices = torch.tensor([[[0.0], [0.0]], [[1.0], [0.5]], [[1.0], [0.6]]])
    >>> smallest_near(slices, torch.ones(2, 1), 0.1)
    tensor([2, 3])
    """
    near = ((slices - wanted) ** 2).sum(2) <= error**2 * (wanted**2).sum(1)
    return torch.where(near.any(0), near.to(torch.uint8).argmax(0) + 1, len(slices))


def recordings(
    model: nn.Module, names: list[str], inputs: tuple[Tensor, ...], batch: int
) -> list[tuple[Tensor, Tensor]]:
    """The tokens [n, D] that reach each named submodule on some inputs, and what it makes of them [n, E]."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}

    def recorder(name: str) -> Any:
        def record(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            seen[name].append((given[0].flatten(0, -2), out.flatten(0, -2)))

        return record

    hooks = [model.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    try:
        with torch.no_grad():
            for start in range(0, len(inputs[0]), batch):
                model(*(x[start : start + batch] for x in inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return [(torch.cat([a for a, _ in seen[n]]), torch.cat([b for _, b in seen[n]])) for n in names]


def _descend(optimizer: Any, loss: Tensor) -> None:
    optimizer.zero_grad()
    backward(loss, [p for group in optimizer.param_groups for p in group["params"]])
    optimizer.step()
