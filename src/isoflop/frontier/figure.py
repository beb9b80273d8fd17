"""The frontier as a figure to look around in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from isoflop.frontier.words import AXIS_WORDS

if TYPE_CHECKING:
    from isoflop.frontier.frontier import Frontier


def figure(front: Frontier) -> go.Figure:
    """Quality against cost, a line a method with its intervals, and the frontier as a line of steps."""
    drawn: Any = go.Figure()
    traces: list[Any] = []
    for c in front.curves:
        band = front.band(c)
        spread = {"array": band.high - band.quality, "arrayminus": band.quality - band.low, "thickness": 1}
        traces.append(
            go.Scatter(
                x=band.cost,
                y=band.quality,
                error_y={"type": "data", "symmetric": False, **spread},
                mode="lines+markers",
                name=c.name,
                text=[f"step {step}" for step in c.steps],
            )
        )
    x, y = [p.cost.value for p in front.points], [p.quality.value for p in front.points]
    line = {"shape": "hv", "color": "#1b1d21"}
    traces.append(go.Scatter(x=[*x, front.dearest], y=[*y, y[-1]], mode="lines", line=line, name="frontier"))
    for trace in traces:
        drawn.add_trace(trace)
    drawn.update_xaxes(title=f"{AXIS_WORDS[front.axis]} for one", type="log")
    drawn.update_yaxes(title="quality")
    drawn.update_layout(template="plotly_white")
    return drawn
