"""Write a model so that three lines load it, in a process that never saw this one."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

from isoflop.method.shrink import Data, Workload, is_conditional
from isoflop.run.shrink.latency import latencies

_COMPARED = 4
_SLOWER = 1.1
"""A form whose uses take this many times as long is not the model that was measured."""
_WITHIN = 1e-4
_LOADS = {
    "model.pt": 'torch.load("model.pt", weights_only=False)',
    "model.pt2": 'torch.export.load("model.pt2").module()',
}
# What the fresh process does: the lines of the README, on examples whose outputs are known.
_CHECK = """
import sys
{block}
import torch
torch.set_num_threads(1)
model = {load}
from torch.utils._pytree import tree_leaves
for inputs, wanted in torch.load("check.pt"):
    with torch.no_grad():
        found = tree_leaves(model(*inputs))
    assert len(found) == len(wanted), "another number of outputs"
    for x, y in zip(found, wanted):
        assert x.shape == y.shape, f"outputs of shape {{list(x.shape)}} and not {{list(y.shape)}}"
        x, y = x.float(), y.float()
        assert torch.allclose(x, y, rtol=0, atol={within} * float(y.abs().max()) + 1e-9), "other outputs"
"""


class SaveError(ValueError):
    """A model cannot be saved so that another process loads it; the message says why."""


def save(module: nn.Module, workload: Workload, folder: Path, what: str) -> Path:
    """Write a model and a README with the three lines that load it, after a fresh process has loaded and compared it.

    As it is, pickled by torch, where that loads without isoflop. Else as an exported graph, which needs torch alone, if
    that gives the same outputs in the same time. Else pickled, and the README says that isoflop must be there.

    Args:
        module: the model.
        workload: whose test inputs it is compared on.
        folder: made, or replaced if an earlier call wrote it.
        what: how it was made, for the README.

    Raises:
        SaveError: the folder holds something else, or no form of the model loads in a fresh process.
        OSError: the folder cannot be written.
    """
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).exists() for name in _LOADS):
        raise SaveError(f"{folder} holds something else; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        some = workload.test.rows(slice(0, _COMPARED))
        _write_check(module, some, new)
        form, alone = _written(module, some, new)
        (new / "check.pt").unlink()
        (new / "README.md").write_text(_readme(module, some, form, alone, what), encoding="utf-8")
        new.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _written(module: nn.Module, some: Data, folder: Path) -> tuple[str, bool]:
    """Write the model; the file's name, and whether it loads without isoflop."""
    pickled = folder / "model.pt"
    try:
        torch.save(module, pickled)
    except Exception as error:
        raise SaveError(f"the model cannot be pickled: {type(error).__name__}: {error}") from error
    why = _fails(folder, pickled.name, blocked=True)
    if not why:
        return pickled.name, True
    if not is_conditional(module) and _exported(module, some, folder):
        pickled.unlink()
        return "model.pt2", True
    why = _fails(folder, pickled.name, blocked=False)
    if why:
        raise SaveError(
            f"the model does not load in a fresh process ({why}); its classes must be in a module that can be "
            f"imported, not in the script or notebook itself"
        )
    return pickled.name, False


def _exported(module: nn.Module, some: Data, folder: Path) -> bool:
    """Whether the model could be written as a graph that does the same in the same time."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes: tuple[Any, ...] = tuple({0: Dim.AUTO} for _ in some.inputs)
            taken = inspect.signature(module.forward).parameters.values()
            if any(p.kind == p.VAR_POSITIONAL for p in taken):  # all inputs are one argument then
                shapes = (shapes,)
            graph = torch.export.export(module, some.inputs, dynamic_shapes=shapes, strict=False)
            torch.export.save(graph, folder / "model.pt2")
            again: nn.Module = graph.module()
            slower = latencies([module, again], some.rows(slice(0, 2)), at_most_s=3)[1].ratio.value > _SLOWER
    except Exception:  # exporting fails in as many ways as there are modules
        slower = True
    if slower or _fails(folder, "model.pt2", blocked=True):
        (folder / "model.pt2").unlink(missing_ok=True)
        return False
    return True


def _write_check(module: nn.Module, some: Data, folder: Path) -> None:
    known: list[Any] = []
    with torch.no_grad():
        for part in (some, some.rows(slice(0, 1))):
            known.append((part.inputs, tree_leaves(module(*part.inputs))))
    torch.save(known, folder / "check.pt")


def _fails(folder: Path, name: str, blocked: bool) -> str:
    """Why a fresh process cannot load the model and get the same outputs; empty if it can."""
    block = "sys.modules['isoflop'] = None" if blocked else ""
    script = _CHECK.format(block=block, load=_LOADS[name], within=_WITHIN)
    here = [str(Path(p).absolute()) for p in sys.path]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(here), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _readme(module: nn.Module, some: Data, form: str, alone: bool, what: str) -> str:
    shapes = "\n".join(f"- {['N', *x.shape[1:]]} of {x.dtype}".replace("'", "") for x in some.inputs)
    packages = ["torch"] if form.endswith("2") else _packages(module)
    needs = ", ".join(f"`{name}` {found}".rstrip() for name in packages for found in [_version(name)])
    words = "It does not need isoflop." if alone else "It needs isoflop, whose classes it is made of."
    return f"""# Model

{what}.

```python
import torch
model = {_LOADS[form]}
output = model(*inputs)
```

{words} It needs {needs}. A fresh process has loaded it with these lines and got the same outputs on {len(some)}
examples.

Inputs, N examples at a time:

{shapes}
"""


def _packages(module: nn.Module) -> list[str]:
    """The packages whose classes the model is made of, and the types of its weights."""
    kinds = {type(m).__module__ for m in module.modules()}
    kinds |= {type(t).__module__ for t in module.state_dict().values() if t is not None}
    return sorted({"torch", *(kind.partition(".")[0] for kind in kinds)})


def _version(package: str) -> str:
    try:
        return version(packages_distributions().get(package, [package])[0])
    except PackageNotFoundError:
        return ""
