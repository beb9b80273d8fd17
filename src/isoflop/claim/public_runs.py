"""Runs that others have published, where they are at hand: claims about laws are tested on them."""

from __future__ import annotations

import os
from pathlib import Path

from isoflop.claim.base import CouldNotRunError
from isoflop.law.columns import read

VARIABLE = "ISOFLOP_DATA"
_BESIDE = Path("..") / "shared" / "data"


def folders() -> list[Path]:
    """Where public data may lie: the folder that $ISOFLOP_DATA names, else beside the repository or where we are."""
    if named := os.environ.get(VARIABLE):
        return [Path(named)]
    return [root / _BESIDE for root in (Path(__file__).parents[3], Path.cwd())]


def public_runs(*names: str) -> list[dict[str, list[object]]]:
    """The columns of files out of the folder `law` of the public data.

    Raises:
        CouldNotRunError: a file is not here.
    """
    for folder in folders():
        files = [folder / "law" / name for name in names]
        if all(file.is_file() for file in files):
            return [read(file) for file in files]
    raise CouldNotRunError(
        f"it needs the public runs {', '.join(names)}: put them into a folder `law` and set {VARIABLE} to its parent"
    )
