"""A fit as a picture, for a paper. Needs the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isoflop.law.fitted import Fit
from isoflop.record.file import replacing
from isoflop.report.law_panels import Panel, panels

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"pictures need {error.name}: pip install 'isoflop[plot]'", name=error.name) from error

FORMATS = (".png", ".svg", ".pdf")


def write(fit: Fit, path: Path | str) -> None:
    """Draw the law with its runs, and what it leaves over; the file's ending names the format.

    Raises:
        ValueError: another ending.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path.name}: the ending must be .html for a page, or {', '.join(FORMATS)}")
    shown = panels(fit)
    figure: Any = Figure(figsize=(5.5 * len(shown), 4), layout="constrained")
    for ax, panel in zip(figure.subplots(1, len(shown)), shown):
        _draw(ax, panel)
    with replacing(path) as new:
        figure.savefig(new, dpi=200)


def _draw(ax: Any, panel: Panel) -> None:
    at, value, low, high = panel.line
    ax.fill_between(at, low, high, color="#2563eb", alpha=0.15, lw=0)
    ax.plot(at, value, color="#2563eb", lw=1.6)
    ax.plot(panel.x, panel.y, ".", color="#1b1d21", ms=5)
    if panel.log:
        ax.set_xscale("log")
    ax.set(xlabel=panel.across, ylabel=panel.up)
    ax.set_title(panel.title, loc="left", fontsize=10, parse_math=False)
    ax.spines[["top", "right"]].set_visible(False)
