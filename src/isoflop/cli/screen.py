"""Where the commands write: results to stdout, all else to stderr, so that results can be piped."""

from __future__ import annotations

import json
import math
from typing import cast

from rich.console import Console

out = Console(highlight=False, markup=False, soft_wrap=False)
err = Console(highlight=False, markup=False, stderr=True)


def put_json(value: object) -> None:
    """Print a value for a machine; what JSON cannot say (NaN, infinity) becomes null."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
