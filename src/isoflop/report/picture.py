"""The frontier as a picture, for a README or a paper. Needs the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isoflop.cost import Axis
from isoflop.frontier import Frontier, FrontierError
from isoflop.frontier.words import AXIS_WORDS, amount
from isoflop.record.file import replacing
from isoflop.report.findings import Findings
from isoflop.run import Study

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"pictures need {error.name}: pip install 'isoflop[plot]'", name=error.name) from error

FORMATS = (".png", ".svg", ".pdf")
_COLOURS = (
    "#2563eb",
    "#d97706",
    "#059669",
    "#dc2626",
    "#7c3aed",
    "#0891b2",
    "#be185d",
    "#4d7c0f",
    "#9a3412",
    "#475569",
)
_SHORT_NAME = 48
_MARKERS = "osD^Pv"
_INK, _SOFT, _RULE = "#1b1d21", "#5f646d", "#e5e2da"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": "#8b909a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "text.color": _INK,
    "svg.hashsalt": "isoflop",
    "text.parse_math": False,  # a $ in a model's name is a $
}


def write(study: Study, path: Path | str, axis: Axis | None = None) -> None:
    """Draw quality against log cost, every method and the frontier, to a file; its ending names the format.

    Args:
        study: what to draw.
        path: ends in .png, .svg or .pdf.
        axis: what cost means; the first budget's axis unless given.

    Raises:
        FrontierError: no frontier can be drawn.
        ValueError: another ending.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path.name}: the ending must be one of {', '.join(FORMATS)}")
    found = Findings(study, axis)
    front = found.on(found.axis)
    if isinstance(front, str):
        raise FrontierError(front)
    with mpl.rc_context(_STYLE), replacing(path) as new:  # pyright: ignore[reportUnknownMemberType]
        names = [found.named(c.method, c.model) for c in front.curves]
        columns = 2 if max(map(len, names)) <= _SHORT_NAME else 1
        rows = -(-(len(names) + 1) // columns)
        figure = Figure(figsize=(8, 4.4 + 0.22 * rows), layout="constrained")
        _draw(figure.subplots(), found, front)
        figure.legend(frameon=False, fontsize=9, loc="outside lower left", ncols=columns)  # pyright: ignore[reportUnknownMemberType]
        dated: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}  # same rows, same bytes
        figure.savefig(new, dpi=200, metadata=dated)  # pyright: ignore[reportUnknownMemberType]


def _draw(ax: Any, found: Findings, front: Frontier) -> None:
    methods = list(dict.fromkeys(c.method for c in front.curves if not c.bound))
    for c in front.curves:
        band, name = front.band(c), found.named(c.method, c.model)
        if c.bound:
            ax.plot(band.cost, band.quality, ":", color="#8b909a", lw=1.4, label=f"{name} (bound)", zorder=1)
            continue
        colour = _COLOURS[methods.index(c.method) % len(_COLOURS)]
        marker = _MARKERS[found.models.index(c.model) % len(_MARKERS)]
        if len(c.steps) == 1:
            spread = [band.quality - band.low, band.high - band.quality]
            ax.errorbar(
                band.cost, band.quality, spread, fmt=marker, color=colour, ms=8, capsize=3, label=name, zorder=4
            )
            continue
        ax.fill_between(band.cost, band.low, band.high, color=colour, alpha=0.12, lw=0, zorder=0)
        ax.plot(band.cost, band.quality, marker=marker, color=colour, lw=1.8, ms=4.5, label=name, zorder=3)
    x = [p.cost.value for p in front.points]
    y = [p.quality.value for p in front.points]
    ax.step([*x, front.dearest], [*y, y[-1]], where="post", color=_INK, lw=1.4, label="frontier", zorder=2)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(_tick))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if found.share:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(color=_RULE, lw=0.8)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"{AXIS_WORDS[front.axis]} a problem")
    ax.set_ylabel("share solved" if found.share else "quality")
    of = f"{front.problems} {front.split or ''} problems".replace("  ", " ")
    ax.set_title(f"{found.study.info.config.get('task', '')}, {of}", loc="left", fontsize=11, fontweight="bold")


def _tick(value: float, _: int | None) -> str:
    return amount(value)
