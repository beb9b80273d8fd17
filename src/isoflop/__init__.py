"""What can this much compute buy, and how should it be spent?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoflop.cost import Budget, Cost, Meter
from isoflop.model.base import Sampling
from isoflop.run import Bench, Study, resume
from isoflop.task import Questions

if TYPE_CHECKING:
    from isoflop.method.shrink import Data, Workload
    from isoflop.run.shrink.call import shrink

__all__ = [
    "Bench",
    "Budget",
    "Cost",
    "Data",
    "Meter",
    "Questions",
    "Sampling",
    "Study",
    "Workload",
    "resume",
    "shrink",
]

_NEED_TORCH = {
    "Data": "isoflop.method.shrink",
    "Workload": "isoflop.method.shrink",
    "shrink": "isoflop.run.shrink.call",
}


def __getattr__(name: str) -> Any:
    """What needs torch, which takes seconds to import, is imported when it is first asked for."""
    if name not in _NEED_TORCH:
        raise AttributeError(f"module 'isoflop' has no attribute {name!r}")
    try:
        return getattr(import_module(_NEED_TORCH[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(f"isoflop.{name} needs torch: pip install 'isoflop[shrink]'", name="torch") from error
