"""A fit as a page with plots to look around in; it needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots  # pyright: ignore[reportUnknownVariableType] - plotly has no types

from isoflop.law.fitted import Fit
from isoflop.record.file import replacing
from isoflop.report.law_panels import panels

_BLUE, _INK = "#2563eb", "#1b1d21"


def write(fit: Fit, path: Path | str) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    shown = panels(fit)
    figure: Any = make_subplots(rows=1, cols=len(shown), subplot_titles=[p.title for p in shown])
    for column, panel in enumerate(shown, 1):
        at, value, low, high = panel.line
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        traces: list[Any] = [
            go.Scatter(x=at, y=low, **band),
            go.Scatter(x=at, y=high, fill="tonexty", fillcolor="rgba(37,99,235,0.15)", **band),
            go.Scatter(x=at, y=value, mode="lines", line={"color": _BLUE}, name="law"),
            go.Scatter(x=panel.x, y=panel.y, mode="markers", marker={"color": _INK, "size": 5}, name="runs"),
        ]
        for trace in traces:
            figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(title=panel.across, type="log" if panel.log else "linear", row=1, col=column)
        figure.update_yaxes(title=panel.up, row=1, col=column)
    figure.update_layout(
        template="plotly_white", showlegend=False, title=f"{fit.law.slug}: {len(fit.y)} runs, {fit.objective}"
    )
    with replacing(Path(path)) as new:
        new.write_text(figure.to_html(include_plotlyjs=True), encoding="utf-8")
