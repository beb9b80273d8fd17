"""Learning curves are power laws with a floor, of the same slope for better models; models grow less than data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from isoflop.claim.base import Claim, CouldNotRunError, Finding, Size, Value
from isoflop.claim.public_runs import public_runs
from isoflop.claim.tiny_models import CURVES, shipped
from isoflop.law.base import Law
from isoflop.law.columns import read
from isoflop.law.engine import Floats, Objective
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit
from isoflop.law.power import Power
from isoflop.law.power_floor import PowerFloor
from isoflop.task.generate import generators

_ARCHITECTURES = "translation, five architectures"
_TRANSLATION, _LANGUAGE, _OPTIMA = "revisiting_nmt.csv", "gadre_openlm_runs.csv", "porian_optima.csv"
_FIT_MISS = 0.03  # root mean square miss of a good fit (fraction of the loss); ours
_FORECAST_MISS = 0.05  # of a loss foretold from less data (fraction of it); ours
_LEAST_POINTS = 6
_LEAST_SIZES = 3
_OWN_START = 0.3  # of the tiny models' curves: by then every recipe's curriculum is over
_OWN_HELD = 20  # last rows of a tiny model's curve, a row being 1 % of its compute

Curves = dict[str, list[tuple[float, float]]]
Columns = dict[str, list[object]]


@final
@dataclass(frozen=True)
class PredictableScaling(Claim):
    """Hestness et al. 2017: loss falls with data by a power law above a floor; better models only shift it.

    Their runs are not public; here it is translation (five architectures, 0.5 M to 512 M examples) and language
    modelling (sizes from 11 M to 412 M parameters on three corpora), from small data to large; and the curves of the
    shipped tiny models, whose problems never repeat, so that the loss of a step is on unseen data. Those are curves of
    one run each, whose rate falls to its end, not ends of many runs. Size growth is tried on
    compute-optimal pairs of size and data, which is another question than theirs, the smallest model that fits a given
    data set: no public runs answer that.
    """

    paper: ClassVar[str] = "Deep Learning Scaling is Predictable, Empirically (arXiv 1712.00409)"
    says: ClassVar[str] = (
        "error falls as a power law of training data above an irreducible floor in every domain; better models shift "
        "the curve but keep its exponent; the model size needed grows sublinearly with data"
    )
    tested_by: ClassVar[str] = (
        f"power laws with floor leave {_FIT_MISS:.0%} on public learning curves and our own; fitted without the "
        f"largest data they foretell them within {_FORECAST_MISS:.0%}; 90 % intervals of the exponents of one domain "
        "share a value; the exponent of size in data lies below 1, interval and all"
    )

    def findings(self, size: Size) -> list[Finding]:
        """Quick: our own tiny models, and translation where its runs are here. Full: language and growth too."""
        wanted = (_TRANSLATION,) if size == "quick" else (_TRANSLATION, _LANGUAGE, _OPTIMA)
        try:
            files = public_runs(*wanted)
        except CouldNotRunError as missing:
            if size == "full":
                raise
            # What was not tested does not let the claim hold.
            return [*_families(), Finding(f"{_ARCHITECTURES}: not tested", False, {"left out": str(missing)})]
        found = _families()
        found += _domain(_ARCHITECTURES, _by(files[0], ("Model",), "Seen Examples", "Loss"), 1)
        if size == "full":
            language = _by(files[1], ("dataset", "params"), "tokens", "loss_paloma_c4_en")
            for corpus in ("c4_original", "rpj", "rw_original"):
                # Below half the tokens that are best for its size, a run is mostly warm-up.
                curves = {
                    name: [p for p in points if p[0] >= 10 * float(name.split()[1])]
                    for name, points in language.items()
                    if name.startswith(corpus)
                }
                found += _domain(f"language, {corpus}", {k: v for k, v in curves.items() if len(v) >= _LEAST_POINTS}, 2)
            found.append(_growth(files[2]))
        return found


def _families() -> list[Finding]:
    """The learning curves of tiny models that are shipped in three sizes or more."""
    sizes = {task: shipped(task) for task in generators()}
    return [
        finding
        for task, models in sizes.items()
        if len(models) >= _LEAST_SIZES
        for finding in _domain(f"tiny models, {task}", {name: _own_curve(name) for name in models}, _OWN_HELD)
    ]


def _own_curve(name: str) -> list[tuple[float, float]]:
    """Loss against response tokens, from where all difficulties are trained on."""
    columns = read(CURVES / f"{name}.curve.jsonl")
    rows = list(zip(map(float, map(str, columns["targets"])), map(float, map(str, columns["loss"]))))
    return rows[int(len(rows) * _OWN_START) :]


def _by(columns: Columns, keys: tuple[str, ...], x: str, y: str) -> Curves:
    """Points (x, y) in order of x, for each combination of the key columns; rows without a value are left out."""
    out: Curves = {}
    for i, (across, up) in enumerate(zip(columns[x], columns[y])):
        if str(across) and str(up):
            name = " ".join(str(columns[key][i]) for key in keys)
            out.setdefault(name, []).append((float(str(across)), float(str(up))))
    return {name: sorted(points) for name, points in out.items()}


def _fit(law: Law, x: Floats, y: Floats) -> Fit:
    return fit_arrays(law, x, y, Objective("least_squares"), Uncertainty(draws=0))


def _domain(what: str, curves: Curves, held: int) -> list[Finding]:
    """Is each curve a power law, does its beginning foretell its end, and do the curves share their exponent?"""
    left: dict[str, Value] = {}
    missed: dict[str, Value] = {}
    exponents: dict[str, Value] = {}
    for name, points in curves.items():
        x, y = np.array(points).T
        whole = _fit(PowerFloor(), x, y)
        left[name] = round(float(np.sqrt(np.mean(whole.residuals**2))), 4)
        early = _fit(PowerFloor(), x[:-held], y[:-held])
        off = early.predict(x[-held:]).value / y[-held:] - 1
        missed[name] = [round(v, 4) for v in off.tolist()]
        alpha = whole.parameters(by="covariance")[-1]
        exponents[name] = [round(float(alpha.low), 3), round(float(alpha.high), 3)]
    worst_left, worst_missed = _largest(left), _largest(missed)
    bias = float(np.mean([np.mean(np.array(v, float)) for v in missed.values()]))
    ends = np.array(list(exponents.values()), float)
    shared = float(ends[:, 0].max()) <= float(ends[:, 1].min())
    holds = worst_missed <= _FORECAST_MISS
    notes: list[dict[str, Value]] = [
        {}
        if holds
        else {"why not": f"the curves flatten {'sooner' if bias < 0 else 'later'} than their beginnings say"},
        {} if shared else {"why not": "the 90 % intervals of the exponent have no value in common"},
    ]
    return [
        Finding(f"{what}: a power law with floor leaves at most {_FIT_MISS:.0%}", worst_left <= _FIT_MISS, left),
        Finding(
            f"{what}: without the {held} largest it foretells them within {_FORECAST_MISS:.0%}",
            holds,
            missed | notes[0],
        ),
        Finding(f"{what}: one exponent for all models", shared, exponents | notes[1]),
    ]


def _largest(values: dict[str, Value]) -> float:
    return max(float(np.abs(np.array(v, float)).max()) for v in values.values())


def _growth(columns: Columns) -> Finding:
    """Compute-optimal size against compute-optimal data, with rate and batch tuned for each size."""
    keys = ("dataset", "hparams", "warmup", "decay", "param_count", "val")
    curves = {k: v for k, v in _by(columns, keys, "t_star", "n_star").items() if " tuned short const standard val" in k}
    ends: dict[str, Value] = {}
    sublinear = True
    for name, points in curves.items():
        x, y = np.array(points).T
        alpha = _fit(Power(), x, y).parameters(by="covariance")[-1]
        ends[name.split()[0]] = [round(float(-alpha.high), 3), round(float(-alpha.low), 3)]
        sublinear = sublinear and -alpha.low < 1
    why: dict[str, Value] = {} if sublinear else {"why not": "compute-optimal size grows about in proportion to data"}
    return Finding("compute-optimal size grows less than in proportion to data", sublinear, ends | why)
