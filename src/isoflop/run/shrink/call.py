"""`isoflop.shrink`: from what a user brings to a study."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from torch import nn

from isoflop.cost import AXES, Axis, Budget
from isoflop.method.base import parts, read_part
from isoflop.method.shrink import ShrinkMethod, Workload, WorkloadError
from isoflop.run.shrink.floor import Floor
from isoflop.run.shrink.kept import Kept, about
from isoflop.run.shrink.measure import refuse_unusable
from isoflop.run.shrink.search import Search, Watch
from isoflop.run.shrink.study import KEEP, Asked, ShrinkStudy

FAMILIES = ("isoflop.method.compress", "isoflop.method.conditional")
DEFAULT_BUDGET = "wall_s=900"


class Options(TypedDict, total=False):
    """What else may be asked of `shrink`.

    Args:
        axis: what is to be as small as can be: `wall_s` unless given, `flops`, `bytes_moved`, `peak_bytes` or `joules`.
        only: the methods to try, by name, in words such as `cast(dtype=bf16)`, or themselves; all unless given.
        seed: of the methods' own choices.
        folder: where the study is kept; `.isoflop/shrink/` and a digest of the question unless given.
        watch: called with a `Standing` now and then.
    """

    axis: Axis
    only: Sequence[str | ShrinkMethod]
    seed: int
    folder: Path | str
    watch: Watch


def shrink(
    model: nn.Module,
    task: Workload,
    floor: str | float = "0.99x",
    uses: float = 1e6,
    budget: str | Budget | Sequence[str | Budget] = DEFAULT_BUDGET,
    **options: Unpack[Options],
) -> ShrinkStudy:
    """Find the cheapest model that is shown to hold the floor, on this machine.

    Tries the methods of `method/compress` and `method/conditional` and their combinations under the budget; the same
    call after a crash goes on where it stopped.

    Args:
        model: the user's module; it is not changed.
        task: calibration, dev and test data, and a score.
        floor: `0.99x` is a share of the original's quality, `0.8` a quality.
        uses: how often the model will be used; what a method costs once is shared by them.
        budget: limits of the whole study, such as `wall_s=900`; several as a list.
        **options: see `Options`.

    Raises:
        WorkloadError: model, data or score cannot be used, or the original misses the floor.
        ValueError: an option that cannot be understood.
        BudgetExhausted: the budget does not even allow to measure the original.
    """
    axis = options.get("axis", "wall_s")
    if axis not in ("wall_s", "flops", "bytes_moved", "peak_bytes", "joules"):
        raise ValueError(
            f"axis {axis!r} must be wall_s, flops, bytes_moved, peak_bytes or joules (of {', '.join(AXES)})"
        )
    if not uses > 0:
        raise ValueError(f"uses={uses:g} must be positive")
    budgets = [budget] if isinstance(budget, str | Budget) else budget
    limits = tuple(b if isinstance(b, Budget) else Budget.parse(b) for b in budgets)
    asked = Asked(Floor.parse(floor), uses, axis, limits, options.get("seed", 0))
    named = [m if isinstance(m, ShrinkMethod) else read_method(m) for m in options.get("only", all_names())]
    methods = [m for m in named if m.label() != KEEP]
    module = refuse_unusable(model, task)
    question = about(module, task, asked.seed)
    folder = options.get("folder") or Path(".isoflop") / "shrink" / f"{question['model']}-{question['workload']}"
    kept = Kept(Path(folder), question)
    return Search(module, task, asked, methods, kept, options.get("watch")).run()


def all_names() -> list[str]:
    """The methods that can be tried as they are, by name."""
    return [
        name
        for family in FAMILIES
        for name, kind in parts(ShrinkMethod, family).items()  # pyright: ignore[reportAbstractUsage]
        if name != KEEP and not needed(kind)
    ]


def needed(kind: type[ShrinkMethod]) -> list[str]:
    """The fields without which a method cannot be made."""
    fields = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType] - concrete parts are dataclasses
    missing = dataclasses.MISSING
    return [f.name for f in fields if f.default is missing and f.default_factory is missing]


def read_method(words: str) -> ShrinkMethod:
    """A method from its words.

    Raises:
        ValueError: unknown name or field; the message lists what exists.
    """
    name = words.partition("(")[0].partition(":")[0].strip()
    known = {n: family for family in FAMILIES for n in parts(ShrinkMethod, family)}
    if name not in known:
        raise ValueError(f"unknown method {name!r}; known are {', '.join(sorted(known))}")
    return read_part(ShrinkMethod, known[name], words)


def load_model(words: str) -> nn.Module:
    """The module that `package.module:name` stands for; called without arguments where it is a function or class.

    Raises:
        WorkloadError: it cannot be imported, or is no module.
    """
    found = _load(words, "model")
    if not isinstance(found, nn.Module):
        raise WorkloadError(f"model {words!r} gives a {type(found).__name__}; it must be, or return, a torch.nn.Module")
    return found


def load_task(words: str) -> Workload:
    """The workload that `package.module:name` stands for; called without arguments where it is a function.

    Raises:
        WorkloadError: it cannot be imported, or is no workload.
    """
    found = _load(words, "task")
    if not isinstance(found, Workload):
        raise WorkloadError(
            f"task {words!r} gives a {type(found).__name__}; it must be, or return, an isoflop.Workload"
        )
    return found


def _load(words: str, what: str) -> object:
    package, colon, name = words.partition(":")
    if not colon or not package or not name:
        raise WorkloadError(f"{what} {words!r} must read package.module:name")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise WorkloadError(f"{what} {words!r}: there is no module {error.name} on the path, nor here") from error
    if not hasattr(module, name):
        raise WorkloadError(f"{what} {words!r}: {package} has no {name}")
    found = getattr(module, name)
    if isinstance(found, nn.Module | Workload) or not callable(found):
        return found
    try:
        return found()
    except Exception as error:
        raise WorkloadError(f"{what} {words!r}: calling it raised {type(error).__name__}: {error}") from error
