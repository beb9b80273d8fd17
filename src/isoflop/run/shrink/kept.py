"""The folder of a study: what was paid for is kept, and found again whatever ended the process."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from isoflop.cost import FREE, Budget, Cost, Role
from isoflop.frontier.estimate import Estimate
from isoflop.method.shrink import Workload, digest
from isoflop.record.file import replacing
from isoflop.run.shrink.latency import NOT_TIMED, Latency
from isoflop.run.shrink.measure import NOT_MEASURED, Measured

_FORMAT = 2
THEN = " then "


@dataclass(frozen=True, eq=False)
class Candidate:
    """A module that a method yielded, or the original itself.

    Args:
        path: the methods that led to it, in order; all but the last with the step they were left at.
        step: which yield of the last method, counted from 0.
        note: what was done, in the methods' words.
        once: what its methods have spent up to it; what the study spent on looking at it is not part of that.
        dev: what it does on the dev examples; on the first of them only where these showed it to be below the floor.
        quick: its latency beside the original, on a few examples; unknown for those below the floor.
        folder: where it is kept, once it is.
        test: what it does on the test examples, where it was looked at.
        final: its latency beside the original and the other finalists.
    """

    path: tuple[str, ...]
    step: int
    note: str
    once: Cost
    dev: Measured = NOT_MEASURED
    quick: Latency = NOT_TIMED
    folder: Path = Path()
    test: Measured | None = None
    final: Latency | None = None

    @property
    def method(self) -> str:
        """The methods that led to it, without the step."""
        return THEN.join(self.path)

    @property
    def name(self) -> str:
        """The methods and the step that led to it."""
        return f"{self.method}@{self.step}"

    @property
    def latency(self) -> Latency:
        """The best measurement there is."""
        return self.final or self.quick

    @property
    def has_module(self) -> bool:
        """Whether the module itself was kept; of those below the floor only the figures are."""
        return (self.folder / "module.pt").exists()

    def module(self) -> nn.Module:
        """The module, read from the folder."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how torch itself stores quantised weights
            return cast(nn.Module, torch.load(self.folder / "module.pt", weights_only=False))


@dataclass(frozen=True)
class Ended:
    """How the work of one method on one module ended.

    Args:
        path: the methods, as in `Candidate`.
        status: `ok`; `stopped: why` below the floor; `refused: why`; `failed: why`; `skipped: why`.
        needs: what it would have needed at least, where its share of the budget ended.
    """

    path: tuple[str, ...]
    status: str
    needs: Budget | None = None

    @property
    def method(self) -> str:
        """The methods in order."""
        return THEN.join(self.path)


@dataclass(frozen=True)
class Bill:
    """What a study has spent.

    Args:
        clock_s: by the clock (seconds).
        by_role: as it was charged.
    """

    clock_s: float
    by_role: Mapping[Role, Cost]

    @property
    def total(self) -> Cost:
        """All roles together; time by the clock."""
        spent = FREE
        for cost in self.by_role.values():
            spent = spent.then(cost)
        return replace(spent, wall_s=self.clock_s)


class Kept:
    """The folder of a study: a folder for each method's work, in it one for each candidate, whole or not there.

    Args:
        folder: where; made if it is not there.
        about: what the study is about; a folder of another study is refused.

    Raises:
        ValueError: the folder belongs to another study, or cannot be read.
    """

    def __init__(self, folder: Path, about: Mapping[str, object]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path, wanted = folder / "study.json", {"format": _FORMAT, **about}
        found = _read(path)
        if found is None:
            _write(path, wanted)
        elif found != json.loads(json.dumps(wanted)):
            other = [k for k in wanted if found.get(k) != wanted[k]]
            raise ValueError(
                f"{folder} holds another study ({', '.join(other)} differ); name another folder, or remove it"
            )

    def of(self, path: Sequence[str]) -> list[Candidate]:
        """The candidates of one method's work, in order."""
        home = self._home(path)
        steps = sorted(int(p.name) for p in home.glob("[0-9]*")) if home.exists() else []
        return [self._load(home / str(step)) for step in steps]

    def add(self, candidate: Candidate, module: nn.Module | None) -> Candidate:
        """Keep a candidate; its module too where it is given."""
        home = self._home(candidate.path)
        home.mkdir(exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=home, prefix=".new-"))
        try:
            if module is not None:
                _save(module, new / "module.pt")
            np.savez(new / "dev.npz", **_arrays(candidate.dev))
            facts = {
                "path": candidate.path,
                "step": candidate.step,
                "note": candidate.note,
                "once": candidate.once.as_dict(),
                "quick": asdict(candidate.quick),
            }
            _write(new / "facts.json", facts)
            new.chmod(0o755)
            new.rename(home / str(candidate.step))
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return replace(candidate, folder=home / str(candidate.step))

    def add_test(self, candidate: Candidate, test: Measured) -> Candidate:
        """Keep what a candidate does on the test examples."""
        with replacing(candidate.folder / "test.npz") as new:
            np.savez(new, **_arrays(test))
        return replace(candidate, test=test)

    def add_final(self, candidate: Candidate, final: Latency) -> Candidate:
        """Keep a candidate's last latency."""
        _write(candidate.folder / "final.json", asdict(final))
        return replace(candidate, final=final)

    def ended(self, path: Sequence[str]) -> Ended | None:
        """How a method's work ended, if it did."""
        found = _read(self._home(path) / "ended.json")
        if found is None:
            return None
        return Ended(tuple(found["path"]), found["status"], found["needs"] and Budget(**found["needs"]))

    def end(self, ended: Ended) -> Ended:
        """Keep how a method's work ended."""
        home = self._home(ended.path)
        home.mkdir(exist_ok=True)
        _write(home / "ended.json", asdict(ended))
        (home / "begun.json").unlink(missing_ok=True)
        return ended

    def begin(self, path: Sequence[str]) -> int:
        """Note that a method's work begins; how often it began before without coming to any end (count)."""
        home = self._home(path)
        home.mkdir(exist_ok=True)
        before = _read(home / "begun.json")
        times = 0 if before is None else int(before["times"])
        _write(home / "begun.json", {"times": times + 1})
        (home / "ended.json").unlink(missing_ok=True)
        return times

    def give_up(self, path: Sequence[str]) -> None:
        """Note that a method's work was left by the user, which is no failure of it."""
        (self._home(path) / "begun.json").unlink(missing_ok=True)

    def forget(self, path: Sequence[str]) -> None:
        """Drop all of a method's work."""
        shutil.rmtree(self._home(path), ignore_errors=True)

    def bill(self) -> Bill:
        """What the study had spent when it was last written."""
        found = _read(self.folder / "bill.json")
        if found is None:
            return Bill(0.0, {})
        return Bill(found["clock_s"], {cast(Role, role): Cost(**cost) for role, cost in found["by_role"].items()})

    def write_bill(self, bill: Bill) -> None:
        """Keep what the study has spent."""
        by_role = {role: cost.as_dict() for role, cost in bill.by_role.items()}
        _write(self.folder / "bill.json", {"clock_s": bill.clock_s, "by_role": by_role})

    def _home(self, path: Sequence[str]) -> Path:
        words = "-".join(word.partition("(")[0].replace("@", "_") for word in path)
        return self.folder / f"{words}-{hashlib.blake2b(THEN.join(path).encode(), digest_size=4).hexdigest()}"

    def _load(self, folder: Path) -> Candidate:
        facts = cast("dict[str, Any]", _read(folder / "facts.json"))
        test, final = folder / "test.npz", _read(folder / "final.json")
        return Candidate(
            tuple(facts["path"]),
            facts["step"],
            facts["note"],
            Cost(**facts["once"]),
            _measured(folder / "dev.npz"),
            _latency(facts["quick"]),
            folder,
            _measured(test) if test.exists() else None,
            None if final is None else _latency(final),
        )


def _save(module: nn.Module, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(module, path)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise ValueError(f"its module cannot be pickled by torch.save: {error}") from error


def workload_digest(workload: Workload) -> str:
    """Changes when the data change, or the name of the workload or of its functions."""
    content = hashlib.blake2b(workload.name.encode(), digest_size=8)
    sets = [workload.data(split) for split in ("calibration", "dev", "test")]
    for data in sets if workload.use is None else [*sets, workload.use]:
        for tensor in (*data.inputs, *([] if data.targets is None else [data.targets])):
            content.update(repr((tensor.shape, tensor.dtype)).encode())
            content.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for function in (workload.score, workload.quality, workload.loss, workload.imitation):
        content.update(getattr(function, "__qualname__", "").encode())
    return content.hexdigest()


def about(module: nn.Module, workload: Workload, seed: int) -> dict[str, object]:
    """What makes two studies the same: model, data, seed, torch."""
    return {
        "model": digest(module),
        "workload": workload_digest(workload),
        "seed": seed,
        "torch": torch.__version__,
    }


def _arrays(measured: Measured) -> dict[str, Any]:
    return {k: getattr(measured, k) for k in ("scores", "flops", "bytes_moved", "peak_bytes")}


def _measured(path: Path) -> Measured:
    with np.load(path) as found:
        return Measured(**{k: found[k] for k in ("scores", "flops", "bytes_moved", "peak_bytes")})


def _latency(facts: Mapping[str, Any]) -> Latency:
    wall, ratio = Estimate(**facts["wall_s"]), Estimate(**facts["ratio"])
    return Latency(wall, facts["worst_s"], ratio, facts["joules"], facts["trouble"])


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it") from error


def _write(path: Path, facts: Mapping[str, object]) -> None:
    with replacing(path) as new:
        new.write_text(json.dumps(facts, indent=1), encoding="utf-8")
