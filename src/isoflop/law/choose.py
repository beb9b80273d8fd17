"""Which law for these runs: the one that foretells the largest of them from the others."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple, cast

import numpy as np

from isoflop.law.base import FRACTION, Law
from isoflop.law.columns import BadData, Table, as_columns, check_design, numbers
from isoflop.law.engine import Floats, Objective
from isoflop.law.find import names
from isoflop.law.fit import Uncertainty, fit_arrays

_ALIKE = 1.25
"""Laws whose misses are within this factor of the least are told apart by AICc instead."""


class Choice(NamedTuple):
    """How one law did.

    Args:
        law: its name.
        miss: mean distance of prediction from measurement on the runs held out, as a share of their mean; NaN if it
            could not be fitted.
        aicc: Akaike's criterion with the correction for few runs, on all runs.
        bic: Schwarz's criterion, on all runs.
        why_not: why it could not be fitted.
    """

    law: str
    miss: float
    aicc: float
    bic: float
    why_not: str = ""


def law_classes() -> dict[str, type[Law]]:
    """All laws by name."""
    return {name: getattr(importlib.import_module(f"isoflop.law.{name}"), found) for name, found in names().items()}


def wanted_fields(law: type[Law]) -> list[str]:
    """What a law must be told besides data, such as the schedules of `multi_power`."""
    return [f.name for f in fields(cast("Any", law)) if f.default is MISSING and f.default_factory is MISSING]


def candidates(x: Sequence[str], y: str) -> dict[str, type[Law]]:
    """The laws that take these columns: by their names, else by number, one as `x` and two as params and tokens."""
    laws = {name: law for name, law in law_classes().items() if not wanted_fields(law)}
    inputs = {law.inputs for law in laws.values()}
    if tuple(x) not in inputs:
        generic = [("x",), ("params", "tokens")]
        x = next((names for names in generic if len(names) == len(x)), ())
    outputs = {law.output for law in laws.values()}
    own = y if y in outputs - {"y"} else "loss"
    return {name: law for name, law in laws.items() if law.inputs == tuple(x) and law.output in {own, "y"}}


def held_out(inputs: Floats, share: float = 0.2) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The largest runs by the product of their inputs, which for params and tokens is compute (M): at least two.

    >>> held_out(np.array([[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]])).nonzero()[0].tolist()
    [8, 9]
    """
    size = np.log(np.maximum(inputs, 0.5)).sum(axis=0)
    out = np.zeros(len(size), bool)
    out[np.argsort(size, kind="stable")[-max(round(share * len(size)), 2) :]] = True
    return out


def choose(
    table: Table, x: Sequence[str], y: str, objective: Objective | None = None
) -> tuple[list[Choice], Objective]:
    """The laws that take these columns, the best first, and the objective that all were fitted with.

    Order: the least miss on the largest fifth of the runs, fitted without them; among laws that miss alike, AICc on all
    runs. It says which law extrapolates best here, over the distance from the small runs to the large ones, no further.

    Args:
        table: as `fit` takes it.
        x: columns of the inputs.
        y: column of the output.
        objective: for all laws, as criteria can be compared only under one; Huber on the logarithm if not given, least
            squares for fractions.

    Raises:
        BadData: a column is missing or faulty, or no law could be fitted.
        ValueError: no law takes such columns.
    """
    found = candidates(x, y)
    if not found:
        raise ValueError(f"no law takes {', '.join(x)} and gives {y}; name one with its columns in order")
    share = any(law.fraction for law in found.values())
    aim = objective or (FRACTION if share else Objective())
    columns = as_columns(table)
    inputs = np.stack([numbers(columns, name) for name in x])
    measured = numbers(columns, y, fraction=share)
    fewest = min(len(law().parameters) for law in found.values())
    if len(measured) < fewest + 3:
        raise BadData(f"{len(measured)} rows: choosing a law needs at least {fewest + 3} runs, as two are held out")
    # What is wrong with the table is wrong for every law, and said once.
    check_design(dict(zip(x, inputs)), y, measured, fewest)
    large = held_out(inputs)
    tried: list[Choice] = []
    for name, law in found.items():
        try:
            small = fit_arrays(law(), inputs[:, ~large], measured[~large], aim, Uncertainty(draws=0))
            whole = fit_arrays(law(), inputs, measured, aim, Uncertainty(draws=0))
        except BadData as fault:
            tried.append(Choice(name, float("nan"), float("nan"), float("nan"), str(fault)))
            continue
        off = np.abs(small.predict(inputs[:, large]).value - measured[large]).mean() / np.abs(measured[large]).mean()
        tried.append(Choice(name, float(off), whole.information("aicc"), whole.information("bic")))
    could = [c for c in tried if np.isfinite(c.miss)]
    if not could:
        raise BadData(f"no law could be fitted; {tried[0].law}: {tried[0].why_not}")
    least = min(c.miss for c in could)
    alike = sorted((c for c in could if c.miss <= _ALIKE * least), key=lambda c: c.aicc)
    rest = sorted((c for c in could if c.miss > _ALIKE * least), key=lambda c: c.miss)
    return [*alike, *rest, *(c for c in tried if c.why_not)], aim
