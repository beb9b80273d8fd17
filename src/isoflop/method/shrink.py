"""What methods that make a model cheaper get and give: a module with its data, and a cheaper module."""

from __future__ import annotations

import copy
import hashlib
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from isoflop.cost import Cost, Meter, Role, in_sequence
from isoflop.cost.energy import EnergyMeter
from isoflop.cost.ops import OpMeter, plain_tensors
from isoflop.method.base import Method, Task
from isoflop.model.base import Ask
from isoflop.task.base import Split

_NO_GRADIENT = ("derivative for", "does not require grad")  # what torch says then
DataSplit = Literal["calibration", "dev", "test"]
Array: TypeAlias = NDArray[np.float64]
Output: TypeAlias = Any
"""What a module returns: a tensor [B, ...], or a tree of such."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A method does not apply to this model; the message says why. Nothing was spent, or a step that told so."""


class WorkloadError(ValueError):
    """A workload cannot be used as it is; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Data:
    """Examples, one along the first dimension of every tensor.

    Args:
        inputs: the module's positional arguments, each [N, ...].
        targets: what outputs are scored against [N, ...]; None where the score needs none, or there are none.

    Raises:
        WorkloadError: no examples, or tensors of different lengths.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        lengths = [len(x) for x in (*self.inputs, *([] if self.targets is None else [self.targets]))]
        if not self.inputs or not all(lengths):
            raise WorkloadError("data without examples; give at least one input tensor with at least one row")
        if len(set(lengths)) > 1:
            raise WorkloadError(f"inputs and targets have {lengths} rows; every tensor needs one row an example")

    def __len__(self) -> int:
        return len(self.inputs[0])

    def rows(self, which: slice | Sequence[int] | Tensor) -> Data:
        """Some of the examples, in this order."""
        chosen = which if isinstance(which, slice) else torch.as_tensor(which)
        return Data(tuple(x[chosen] for x in self.inputs), None if self.targets is None else self.targets[chosen])

    def spread(self, count: int) -> Data:
        """`count` of the examples, evenly spread, as they may be sorted; all where there are no more."""
        if count >= len(self):
            return self
        return self.rows(np.linspace(0, len(self) - 1, count).round().astype(int).tolist())

    def batches(self, size: int) -> Iterator[Data]:
        """All examples in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))


def _agreement(student: Output, teacher: Output) -> Tensor:
    """Mean squared difference of all floating-point outputs, in units of the teacher's variance."""
    pairs = [(s, t) for s, t in zip(tree_leaves(student), tree_leaves(teacher), strict=True) if _is_float(t)]
    return torch.stack([((s - t) ** 2).mean() / (t.float().var() + 1e-9) for s, t in pairs]).mean()


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def mean(scores: Array) -> float:
    """The figure of a workload that has no other."""
    return float(scores.mean())


@dataclass(frozen=True)
class Workload:
    """What a model is for: data, and how good its outputs are.

    Three sets apart: methods see `calibration` only, the study chooses on `dev`, and what it promises is measured on
    `test`.

    Args:
        name: what rows call it.
        calibration: to compress by; targets are used where they are there.
        dev: to choose by.
        test: to verify by, looked at once.
        score: outputs [B, ...] and targets [B, ...] to a quality for each example [B], higher is better.
        quality: scores of all examples (N) to the one figure that a floor is a limit of; their mean unless given.
        loss: outputs and targets to a scalar to train by; None where only imitating the original is to be used.
        imitation: outputs and the original's outputs to a scalar to train by.
        batch: examples at a time when many are computed (count).
        use: inputs as the model is used on them, where examples to score by are something else: single tokens of a
            model that is scored on windows of text. What a use costs is measured on these; on dev examples without.

    Raises:
        WorkloadError: nothing to score against.
    """

    name: str
    calibration: Data
    dev: Data
    test: Data
    score: Callable[[Output, Tensor], Tensor]
    quality: Callable[[Array], float] = mean
    loss: Callable[[Output, Tensor], Tensor] | None = None
    imitation: Callable[[Output, Output], Tensor] = _agreement
    batch: int = 64
    use: Data | None = None

    def __post_init__(self) -> None:
        for split in ("dev", "test"):
            if self.data(split).targets is None:
                raise WorkloadError(f"{self.name}: the {split} data have no targets, so there is nothing to score by")
        if self.batch < 1:
            raise WorkloadError(f"{self.name}: batch={self.batch} must be at least 1")

    def data(self, split: DataSplit) -> Data:
        """The examples of a split."""
        return getattr(self, split)

    def scores(self, outputs: Output, data: Data) -> Array:
        """The quality of each of B outputs (B).

        Raises:
            WorkloadError: the user's score raised, or gave something else than one finite number an example.
        """
        targets = data.targets
        if targets is None:
            raise WorkloadError(f"{self.name}: these examples have no targets, so there is nothing to score by")
        try:
            found = self.score(outputs, targets)
        except Exception as error:
            raise WorkloadError(f"{self.name}: the score raised {type(error).__name__}: {error}") from error
        if tuple(found.shape) != (len(data),):
            raise WorkloadError(
                f"{self.name}: the score gave shape {tuple(found.shape)} for {len(data)} examples; "
                f"it must give one number an example, of shape ({len(data)},)"
            )
        return found.detach().double().cpu().numpy()


class Conditional(nn.Module):
    """A module that spends more on some inputs than on others.

    Given one example it computes only what that example needs, and given B examples what each of them would get alone:
    so its cost can be measured example by example, and a batch changes no answer.
    """


def is_conditional(module: nn.Module) -> bool:
    """Whether what a module spends depends on the input and not only on its shape."""
    return any(isinstance(m, Conditional) for m in module.modules())


@dataclass(frozen=True)
class Shrunk:
    """What a method yields: a cheaper module.

    Args:
        module: takes what the original takes and returns what it returns.
        note: what was done to it, in a few words with figures.
    """

    module: nn.Module
    note: str


@dataclass(eq=False)
class Original:
    """What methods get: a module, what it is for, and the only door to compute.

    Methods leave `module` as it is and change a `copy`. All torch work happens inside `spending`, or in the body of
    `repeat`; there it is counted and charged once, and refused before it would exceed a budget.

    Args:
        module: the one to make cheaper, in evaluation mode; it may have been made cheaper by another method already.
        workload: what it is for. Methods look at its calibration data only.
        meter: who pays.
        teacher: the user's own module, to imitate; `module` itself unless another method came before.
        begun: what a method that `continues` had yielded last when it was cut off; not to be changed.
    """

    module: nn.Module
    workload: Workload
    meter: Meter
    teacher: nn.Module
    begun: nn.Module | None = None
    _counting: OpMeter | None = None

    @property
    def calibration(self) -> Data:
        """What methods may look at."""
        return self.workload.calibration

    def copy(self) -> nn.Module:
        """A module of its own to change, in evaluation mode."""
        return copy.deepcopy(self.module).eval()

    @contextmanager
    def spending(self, role: Role = "tune") -> Generator[None]:
        """Count the torch work of the block and charge it; inside another block it is part of that one.

        Raises:
            BudgetExhausted: from the operator that would exceed a budget; it was not computed.
        """
        if self._counting is not None:
            yield
            return
        with OpMeter(self.meter, role) as counting, self._inside(counting):
            yield

    @contextmanager
    def _inside(self, counting: OpMeter) -> Generator[None]:
        outer, self._counting = self._counting, counting
        try:
            yield
        finally:
            self._counting = outer

    def repeat(self, times: int, role: Role = "tune", loops: int = 1, kinds: Sequence[Hashable] = ()) -> Iterator[int]:
        """0, 1, ... `times` - 1 for steps that are alike: the first one is counted, and each is charged as much.

        Counting every operator of a long training would take longer than the training itself. And what cannot be
        finished is not begun: after the first step all that are to come must fit, in time and energy after the second,
        as counting makes the first one several times as long.

        Args:
            times: steps (count).
            role: what for.
            loops: of as many steps that make one thing, this one and those to come (count); their steps may differ.
            kinds: of each step, where they are not all alike; then the first of each kind is counted.

        Raises:
            BudgetExhausted: the steps to come would exceed a budget, and were not begun; or the next one would.
        """
        kinds = kinds or [None] * times
        later = [*kinds] * (loops - 1)
        known: dict[Hashable, Cost] = {}
        timed: set[Hashable] = set()
        counted, energy = self._counting, EnergyMeter()
        for i, kind in enumerate(kinds):
            if kind not in known:
                with self.spending(role):
                    counted = cast(OpMeter, self._counting)
                    yield i
                known[kind] = replace(counted.cost, wall_s=0.0, joules=0.0)
                self._foresee(known, [*kinds[i + 1 :], *later])
                energy = EnergyMeter()
                continue
            hold = self.meter.admit(known[kind])
            started, busy = time.perf_counter(), time.process_time()
            with self._inside(cast(OpMeter, counted)):
                try:
                    yield i
                finally:
                    joules = energy.since_last(time.process_time() - busy).mid
                    known[kind] = replace(known[kind], wall_s=time.perf_counter() - started, joules=joules)
                    hold.settle(known[kind], role)
            if kind not in timed:
                timed.add(kind)
                self._foresee(known, [*kinds[i + 1 :], *later])

    def _foresee(self, known: Mapping[Hashable, Cost], kinds: Sequence[Hashable]) -> None:
        """Refuse steps to come of which it is known that they do not fit."""
        if kinds:
            counts = Counter(kinds)
            self.meter.admit(in_sequence(cost.times(counts[kind]) for kind, cost in known.items())).release()

    def outputs(self, module: nn.Module, data: Data, role: Role = "tune") -> list[Output]:
        """What a module returns for each batch of some examples, without gradients."""
        with self.spending(role), torch.no_grad():
            return [module(*part.inputs) for part in data.batches(self.workload.batch)]

    def quality(self, module: nn.Module, data: Data, role: Role = "verify") -> float:
        """The workload's figure of a module on examples with targets; a method chooses by it, on calibration data."""
        parts = zip(self.outputs(module, data, role), data.batches(self.workload.batch), strict=True)
        return self.workload.quality(np.concatenate([self.workload.scores(out, part) for out, part in parts]))

    def merit(self, module: nn.Module, data: Data | None = None, role: Role = "tune") -> float:
        """How good a module is on calibration data, higher is better: what a method selects by.

        The workload's figure where the data have targets, else how well it imitates the teacher.
        """
        data = self.calibration if data is None else data
        if data.targets is not None:
            return self.quality(module, data, role)
        with self.spending(role), torch.no_grad():
            apart = [
                self.workload.imitation(module(*part.inputs), self.teacher(*part.inputs)).item() * len(part)
                for part in data.batches(self.workload.batch)
            ]
        return -sum(apart) / len(data)


def backward(loss: Tensor, learned: Iterable[Tensor]) -> None:
    """Add the gradients of a scalar to `grad` of what is learned; what it does not reach, or is frozen, gets none.

    Some layers in packed integers let no gradient through: torch's own raise, and others say nothing and stop it.

    Raises:
        Refused: it reaches nothing of what is learned.
    """
    open_ones = [p for p in learned if p.requires_grad]
    found: Sequence[Tensor | None] = ()
    try:
        if open_ones:
            found = cast(tuple[Tensor | None, ...], torch.autograd.grad(loss, open_ones, allow_unused=True))
    except RuntimeError as error:
        if not any(words in str(error) for words in _NO_GRADIENT):
            raise
    if all(gradient is None for gradient in found):
        raise Refused(
            "it trains, and no gradient gets from the loss to what it would train: a layer in between computes in "
            "packed integers, or all is frozen; apply it before int8, or with steps=0 if it can go without training"
        )
    for value, gradient in zip(open_ones, found, strict=True):
        if gradient is not None:
            value.grad = gradient if value.grad is None else value.grad + gradient


class ShrinkMethod(Method[Original, Shrunk]):
    """A way to make a model cheaper.

    What it spends while it runs is paid once. It yields modules from dear to cheap, each one a point of its curve of
    quality against cost per use, so that a study can stop it once they fall below the floor. It refuses models that it
    does not apply to before it spends anything.
    """

    continues: ClassVar[bool] = False
    """Whether each module is made from the one before, so that a curve cut off goes on from `problem.begun`."""

    @abstractmethod
    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Make `problem.module` cheaper; see `Method.run`.

        Raises:
            Refused: it does not apply to this module; the message says why.
            BudgetExhausted: passes through from the problem; nothing more was spent.
        """


class Shrinking(Task[Original, Shrunk]):
    """One module to make cheaper, as a task of one problem.

    Args:
        module: the user's own; it is not changed.
        workload: what it is for.
        teacher: what to imitate; `module` unless it is itself the result of a method.
    """

    def __init__(self, module: nn.Module, workload: Workload, teacher: nn.Module | None = None) -> None:
        self.module, self.workload, self.teacher = module.eval(), workload, teacher or module
        self.name, self.digest = workload.name, digest(module)

    def keys(self, split: Split) -> Sequence[str]:
        """The one problem."""
        return [self.name]

    def open(self, key: str, meter: Meter, ask: Ask, seed: int) -> Original:
        """The module behind `meter`."""
        return Original(self.module, self.workload, meter, self.teacher)

    def score(self, key: str, answer: Shrunk) -> float:
        """The workload's figure on the dev data."""
        free = Original(answer.module, self.workload, Meter(), self.teacher)
        return free.quality(answer.module, self.workload.dev)

    def describe(self, answer: Shrunk) -> tuple[str, float]:
        """What was done, and a digest of the weights."""
        return f"{answer.note} [{digest(answer.module)}]", float("nan")


def digest(module: nn.Module) -> str:
    """Changes when any weight or the structure of a module changes."""
    content = hashlib.blake2b(repr(module).encode(), digest_size=8)
    for name, value in sorted(module.state_dict().items()):
        content.update(name.encode())
        for tensor in plain_tensors(value):
            plain = tensor.int_repr() if tensor.is_quantized else tensor
            content.update(plain.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()
