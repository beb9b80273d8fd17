"""Exits: heads that answer from inside a model, rules that say when to, and the model that leaves there."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from isoflop.cost.ops import OpMeter
from isoflop.method.conditional.blocks import Chain, submodules, walk
from isoflop.method.shrink import Conditional, Output, Refused

_GRID = 4  # cells that a picture or a series is averaged into, along each axis
_NEVER = math.inf
_ENDS = (nn.Sigmoid, nn.Softmax, nn.LogSoftmax, nn.Tanh, nn.Softplus, nn.ReLU)  # what models end with


class Head(nn.Module):
    """Answers from what a block passes on: `features` are taken once, `forward` is what training repeats."""

    @abstractmethod
    def features(self, hidden: Tensor) -> Tensor:
        """What is kept of the hidden state [B, ...] to answer from [B, ...]; it has nothing to learn."""


class PooledHead(Head):
    """A linear map of the standardised hidden state, averaged over a grid or over tokens.

    Args:
        hidden: of some examples [B, C, ...], [B, T, D] or [B, D].
        output: of the same [B, ...].
        channels_first: whether channels are the second dimension of `hidden` or the last.
        end: what the model itself does last, such as a sigmoid.
    """

    def __init__(self, hidden: Tensor, output: Tensor, channels_first: bool, end: nn.Module) -> None:
        super().__init__()
        self.channels_first, self.shape, self.end = channels_first, tuple(output.shape[1:]), end
        kept = self.features(hidden)
        self.norm, self.map = Standard(kept), _silent(kept.shape[1], math.prod(self.shape))

    def features(self, hidden: Tensor) -> Tensor:
        """Averages [B, F]."""
        if hidden.ndim == 2:
            return hidden
        if not self.channels_first:
            return hidden.flatten(1, -2).mean(1)
        if hidden.ndim == 3:
            return F.adaptive_avg_pool1d(hidden, min(_GRID, hidden.shape[2])).flatten(1)
        grid = (min(_GRID, hidden.shape[2]), min(_GRID, hidden.shape[3]))
        return F.adaptive_avg_pool2d(hidden, grid).flatten(1)

    def forward(self, kept: Tensor) -> Tensor:
        """Features [B, F] to outputs [B, ...]."""
        return self.end(self.map(self.norm(kept)).reshape(len(kept), *self.shape))


class PlaceHead(Head):
    """A linear map of the standardised hidden state at each token or pixel.

    Args:
        hidden: of some examples [B, T, D], or [B, C, ...] with channels first.
        output: of the same, with one answer a place: [B, T, K], or [B, K, ...].
        channels_first: whether channels are the second dimension of both or the last.
        end: what the model itself does last, such as a sigmoid.
    """

    def __init__(self, hidden: Tensor, output: Tensor, channels_first: bool, end: nn.Module) -> None:
        super().__init__()
        self.channels_first, self.size, self.end = channels_first, tuple(output.shape[2:]), end
        kept = self.features(hidden)
        self.norm = Standard(kept.flatten(0, -2))
        self.map = _silent(kept.shape[-1], output.shape[1 if channels_first else -1])

    def features(self, hidden: Tensor) -> Tensor:
        """The hidden state with its channels last [B, ..., D]."""
        return hidden.movedim(1, -1) if self.channels_first else hidden

    def forward(self, kept: Tensor) -> Tensor:
        """Features [B, ..., D] to outputs, brought to their size where that differs."""
        out = self.map(self.norm(kept))
        if not self.channels_first:
            return self.end(out)
        out = out.movedim(-1, 1)
        if tuple(out.shape[2:]) != self.size:
            out = F.interpolate(out, self.size, mode="linear" if len(self.size) == 1 else "bilinear")
        return self.end(out)


class TailHead(Head):
    """The model's own last layers behind a learnt linear map of the hidden state, which starts as the identity.

    Args:
        width: of the hidden state.
        tail: what the model does after its last block; it is shared with it and not trained.
    """

    def __init__(self, width: int, tail: Sequence[nn.Module]) -> None:
        super().__init__()
        self.map = _silent(width, width)
        self.tail = nn.Sequential(*tail)

    def features(self, hidden: Tensor) -> Tensor:
        """The hidden state itself [B, ..., D]."""
        return hidden

    def forward(self, kept: Tensor) -> Tensor:
        """Hidden state [B, ..., D] to outputs."""
        return self.tail(kept + self.map(kept))


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """A map to zero: heads are linear, so that nothing is won by starting from chance."""
    made = nn.Linear(inputs, outputs)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made


class Standard(nn.Module):
    """Brings each feature to mean 0 and variance 1 on the examples given [N, F]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, examples: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", examples.mean(0))
        self.register_buffer("scale", 1 / (examples.std(0, correction=0) + 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] to [..., F]."""
        return (x - self.mean) * self.scale


class Path:
    """What one forward pass has come by so far.

    Args:
        heads: of the exits; each is computed once at most, and only if somebody asks for its output.

    Attributes:
        entered: what went into the block before each exit that was reached, each [B, ...].
        hidden: what came out of it, each [B, ...].
        chosen: the exit that a gate has chosen [B], if there is a gate.
        last: the model's own answer, once it is there.
    """

    last: Tensor

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        self.entered: list[Tensor] = []
        self.hidden: list[Tensor] = []
        self.chosen: Tensor | None = None
        self._heads = heads
        self._outputs: dict[int, Tensor] = {}

    @property
    def here(self) -> int:
        """The exit that was reached last."""
        return len(self.hidden) - 1

    def output(self, k: int) -> Tensor:
        """The answer of exit `k` [B, ...]."""
        if k not in self._outputs:
            head = self._heads[k]
            assert isinstance(head, Head)
            self._outputs[k] = head(head.features(self.hidden[k]))
        return self._outputs[k]


class Rule(nn.Module):
    """How ready each example is to leave at the exit that was reached last [B]; higher is readier, -inf cannot."""

    @abstractmethod
    def forward(self, path: Path) -> Tensor:
        """Scores [B]."""


class Never(Rule):
    """Nobody is ever ready: it stands where another rule is to come, or where none is asked."""

    def forward(self, path: Path) -> Tensor:
        """Scores [B]."""
        return path.hidden[0].new_full((len(path.hidden[0]),), -math.inf)


class Confidence(Rule):
    """The log-odds of the likeliest class, averaged over places where there are several.

    Log-odds and not the probability itself, which is 1 in floating point long before there is nothing left to rank.

    Args:
        probabilities: whether outputs are probabilities already, and not logits.
    """

    def __init__(self, probabilities: bool) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, path: Path) -> Tensor:
        """Scores [B]."""
        return confidence(path.output(path.here), self.probabilities)


class Consistency(Rule):
    """How little the answer has changed since the exit before, as DeeR has it; nobody leaves at the first one.

    Args:
        scale: the spread of the model's outputs, as a unit.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, path: Path) -> Tensor:
        """Scores [B]: minus the root mean square of the change."""
        if path.here == 0:
            return path.hidden[0].new_full((len(path.hidden[0]),), -math.inf)
        return -distance(path.output(path.here), path.output(path.here - 1)) / self.scale


class Similarity(Rule):
    """The cosine between what enters and what leaves a block, token by token and without sink tokens.

    Args:
        sinks: tokens whose norm is more than this many times the median of their example are left out.
    """

    def __init__(self, sinks: float = 8.0) -> None:
        super().__init__()
        self.sinks = sinks

    def forward(self, path: Path) -> Tensor:
        """Scores [B]."""
        return token_similarity(path.entered[-1], path.hidden[-1], self.sinks)


def confidence(outputs: Tensor, probabilities: bool) -> Tensor:
    """The mean over places of the log-odds of the likeliest class, of outputs [B, ..., K] to [B]."""
    if probabilities:
        top = outputs.amax(-1).clamp(1e-6, 1 - 1e-6)
        odds = torch.logit(top)
    else:
        two = outputs.topk(2, -1).indices[..., :1]
        rest = outputs.scatter(-1, two, -math.inf)
        odds = outputs.amax(-1) - rest.logsumexp(-1)
    return odds.flatten(1).mean(1) if odds.ndim > 1 else odds


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference of two outputs [B, ...] for each example [B]."""
    return ((a - b) ** 2).flatten(1).mean(1).sqrt()


def sink_tokens(hidden: Tensor, times: float) -> Tensor:
    """Which tokens of [B, T, D] carry massive activations [B, T]: norms far beyond the median of their example."""
    energies = (hidden**2).sum(-1)
    return energies > times**2 * torch.sort(energies, dim=-1).values[:, energies.shape[-1] // 2, None]


def token_similarity(before: Tensor, after: Tensor, sinks: float) -> Tensor:
    """The mean cosine of the tokens of [B, T, D] (or of whole examples [B, D]) that are no sinks, for each example [B].

    Raises:
        Refused: the two have different shapes, so there is no cosine.
    """
    if before.shape != after.shape:
        raise Refused(
            f"similarity compares what enters a block with what leaves it, and a block changes shape from "
            f"{tuple(before.shape[1:])} to {tuple(after.shape[1:])}; use the rule confidence or consistency"
        )
    if before.ndim != 3:
        return F.cosine_similarity(before.flatten(1), after.flatten(1), dim=1)
    kept = ~(sink_tokens(before, sinks) | sink_tokens(after, sinks))
    cosines = F.cosine_similarity(before, after, dim=-1)
    return (cosines * kept).sum(-1) / kept.sum(-1).clamp(min=1)


class EarlyExit(Conditional):
    """A model that answers at the first exit where an example is ready, and computes nothing after it.

    A batch is computed until the last of its examples is ready; each gets the answer it would get alone.

    Args:
        trunk: the model.
        places: names of the blocks after which there is an exit, in the order they run.
        heads: of the exits.
        rule: how ready an example is.
        thresholds: the score to leave at, for each exit; inf: nobody leaves there, -inf: all do.
    """

    thresholds: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        places: Sequence[str],
        heads: Sequence[Head],
        rule: Rule,
        thresholds: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.trunk, self.places = trunk, list(places)
        self.heads, self.rule = nn.ModuleList(heads), rule
        self.register_buffer("thresholds", torch.tensor(thresholds or [_NEVER] * len(places), dtype=torch.float64))

    def forward(self, *inputs: Tensor) -> Output:
        """What the trunk takes, to what it returns."""
        path = Path(self.heads)  # pyright: ignore[reportArgumentType] - a ModuleList is a sequence of modules
        answer: Tensor | None = None
        waiting = torch.ones(len(inputs[0]), dtype=torch.bool, device=inputs[0].device)

        def visit(entered: Tensor, hidden: Tensor) -> bool:
            nonlocal answer, waiting
            path.entered.append(entered)
            path.hidden.append(hidden)
            threshold = float(self.thresholds[path.here])
            if threshold == _NEVER:
                return False
            ready = waiting if threshold == -_NEVER else waiting & (self.rule(path) >= threshold)
            if ready.any():
                answer = _merged(answer, path.output(path.here), ready)
                waiting = waiting & ~ready
            return not waiting.any()

        last = walk(self.trunk, self.places, inputs, visit)
        return answer if last is None else last if answer is None else _merged(answer, last, waiting)

    def watched(self, *inputs: Tensor) -> Path:
        """Run to the end whatever the rule says, and keep what passes."""
        path = Path(self.heads)  # pyright: ignore[reportArgumentType]

        def visit(entered: Tensor, hidden: Tensor) -> bool:
            path.entered.append(entered)
            path.hidden.append(hidden)
            return False

        path.last = one_tensor(walk(self.trunk, self.places, inputs, visit))
        return path

    def every(self, *inputs: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Scores [B, K], the answer of every exit, K of [B, ...], and the model's own [B, ...]."""
        whole, path = self.watched(*inputs), Path(self.heads)  # pyright: ignore[reportArgumentType]
        scores: list[Tensor] = []
        for entered, hidden in zip(whole.entered, whole.hidden, strict=True):
            path.entered.append(entered)
            path.hidden.append(hidden)
            scores.append(self.rule(path))
        return torch.stack(scores, 1).double(), [path.output(k) for k in range(len(self.places))], whole.last

    def costs(self, inputs: Sequence[Tensor]) -> list[float]:
        """FLOPs of one example [1, ...] that leaves at each exit or at none, looked at there and on every exit before.

        An exit where the rule lets nobody leave costs what the next one does.
        """
        kept, spent = self.thresholds.clone(), list[float]()
        reached = torch.finfo(torch.float64).max
        for k in range(len(self.places) + 1):
            self.thresholds.fill_(reached)  # looked at, and left by nobody
            self.thresholds[k:] = -_NEVER
            self.thresholds[k : k + 1] = -reached  # looked at, and left
            with OpMeter() as ops, torch.no_grad():
                self(*inputs)
            spent.append(ops.flops)
        self.thresholds.copy_(kept)
        return spent


def _merged(old: Tensor | None, new: Tensor, rows: Tensor) -> Tensor:
    """`old` [B, ...] with some rows from `new`."""
    if old is None:
        return new
    return torch.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)


@dataclass(frozen=True)
class Look:
    """What a model does on some examples: shapes to build heads for.

    Args:
        hidden: what leaves each place, each [B, ...].
        last: what leaves the last block [B, ...].
        output: the model's [B, ...].
    """

    hidden: list[Tensor]
    last: Tensor
    output: Tensor


def look(module: nn.Module, places: Sequence[str], last: str, inputs: Sequence[Tensor]) -> Look:
    """Run a model once and keep what passes.

    Raises:
        Refused: it returns something else than one floating-point tensor.
    """
    hidden: list[Tensor] = []

    def visit(_: Tensor, after: Tensor) -> bool:
        hidden.append(after)
        return False

    with torch.no_grad():
        output = walk(module, [*places, last], inputs, visit)
    return Look(hidden[:-1], hidden[-1], one_tensor(output))


def one_tensor(output: Output) -> Tensor:
    """A model's output, if it is one floating-point tensor.

    Raises:
        Refused: it is something else.
    """
    if isinstance(output, Tensor) and output.is_floating_point():
        return output
    raise Refused(f"exits answer with one floating-point tensor, and the model returns {type(output).__name__}")


def build_heads(module: nn.Module, chain: Chain, places: Sequence[int], inputs: Sequence[Tensor]) -> list[Head]:
    """A head for each exit: the model's own last layers where they fit, else a linear map.

    Args:
        module: the model whose layers are shared.
        chain: its blocks.
        places: indices of the blocks with an exit.
        inputs: some examples, each [B, ...].
    """
    names = [chain.blocks[i] for i in places]
    seen = look(module, names, chain.blocks[-1], inputs)
    tail, end = own_tail(module, chain, inputs, seen), own_end(module, inputs)
    return [_head(module.get_submodule(name), h, seen, tail, end) for name, h in zip(names, seen.hidden, strict=True)]


def _head(block: nn.Module, hidden: Tensor, seen: Look, tail: list[nn.Module] | None, end: nn.Module) -> Head:
    output = seen.output
    if tail is not None and hidden.ndim >= 2 and hidden.shape[1:] == seen.last.shape[1:] and not _convolves(block):
        return TailHead(hidden.shape[-1], tail)
    first = hidden.ndim > 3 or (hidden.ndim == 3 and _convolves(block))
    if hidden.ndim == output.ndim >= 3 and (first or hidden.shape[1:-1] == output.shape[1:-1]):
        return PlaceHead(hidden, output, first, end)
    return PooledHead(hidden, output, first, end)


def _convolves(block: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d) for m in block.modules())


def own_tail(module: nn.Module, chain: Chain, inputs: Sequence[Tensor], seen: Look) -> list[nn.Module] | None:
    """The submodules that turn what leaves the last block into the output, if doing so one after the other does it."""
    called: list[str] = []
    last = chain.blocks[-1]
    outside = [
        name
        for name, part in submodules(module).items()
        if name and not list(part.children()) and not _within(name, chain)
    ]

    def visitor(name: str) -> Callable[..., None]:
        return lambda *_: called.append(name)

    names = [*outside, last]
    handles = [module.get_submodule(name).register_forward_hook(visitor(name)) for name in names]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    parts = [module.get_submodule(name) for name in called[called.index(last) + 1 :]]
    try:
        with torch.no_grad():
            out = nn.Sequential(*parts)(seen.last)
    except (RuntimeError, TypeError):
        return None
    fits = isinstance(out, Tensor) and out.shape == seen.output.shape
    return parts if fits and torch.allclose(out, seen.output, rtol=1e-4, atol=1e-5) else None


def own_end(module: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """The activation that writes the model's output: losses expect what has gone through it; nothing without one."""
    wrote: dict[int, nn.Module] = {}
    alive: list[object] = []  # so that no address is used again

    def visitor(part: nn.Module, _: object, out: object) -> None:
        alive.append(out)
        wrote[id(out)] = part

    ends = [part for part in submodules(module).values() if isinstance(part, _ENDS)]
    handles = [part.register_forward_hook(visitor) for part in ends]
    try:
        with torch.no_grad():
            return wrote.get(id(module(*inputs)), nn.Identity())
    finally:
        for handle in handles:
            handle.remove()


def _within(name: str, chain: Chain) -> bool:
    return any(name == block or name.startswith(f"{block}.") for block in chain.blocks)


def dropped_after(model: EarlyExit, chain: Chain, exit_at: int) -> None:
    """Take out what a model that always leaves at exit `exit_at` at the latest never computes."""
    after = chain.blocks.index(model.places[exit_at]) + 1
    for name in chain.blocks[after:]:
        parent, _, child = name.rpartition(".")
        setattr(model.trunk.get_submodule(parent), child, nn.Identity())
    for k in range(exit_at + 1, len(model.places)):
        model.heads[k] = nn.Identity()
