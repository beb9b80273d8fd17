"""A study of cheaper models: on the screen, and as a page."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from isoflop.cost import Axis
from isoflop.frontier import FrontierError
from isoflop.frontier.words import AXIS_WORDS, Grid, amount
from isoflop.record.file import replacing
from isoflop.report import html
from isoflop.report.terminal import table
from isoflop.run.provenance import provenance
from isoflop.run.shrink.study import ShrinkStudy
from isoflop.run.shrink.table import headline, narrow, sentences, techniques

_WIDE = 150
_AXES: tuple[Axis, ...] = ("wall_s", "flops", "bytes_moved", "peak_bytes")


def tables(study: ShrinkStudy, width: int = _WIDE) -> list[RenderableType]:
    """The answer, what limits it, and a row for each technique, for rich to print.

    Args:
        study: what to show.
        width: of the screen (characters).
    """
    lines = [Text(headline(study), "bold"), *(Text(line) for line in sentences(study))]
    grids = [techniques(study)] if width >= _WIDE else narrow(study)
    return [Panel(Group(*lines), border_style="dim"), *(table(grid) for grid in grids if grid.rows)]


def write(study: ShrinkStudy, path: Path | str) -> None:
    """Write the page, self-contained, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    page = render(study)
    with replacing(Path(path)) as new:
        new.write_text(page, encoding="utf-8")


def render(study: ShrinkStudy) -> str:
    """The page. What comes from users is escaped, and the page's own policy lets no other script run."""
    style = (files("isoflop.report") / "page.css").read_text(encoding="utf-8")
    plotly_js = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    figures = _figures(study)
    draw = "".join(
        f"Plotly.newPlot({json.dumps(f'frontier-{axis}')},{_safe(figure)});" for axis, figure in figures.items()
    )
    allowed = " ".join(html.digest(s) for s in (plotly_js, draw))
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    first, *rest = [headline(study), *sentences(study)]
    return "\n".join(
        [
            '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(study.workload.name)}: the same model for less</title><style>{style}</style></head><body>",
            '<header><span class="brand">iso<i>flop</i></span>',
            f'<span class="grow">{escape(study.workload.name)} · floor {escape(str(study.asked.floor))} · '
            f"{amount(study.asked.uses)} uses</span></header>",
            f"<main><h1>{escape(first)}</h1>",
            *(f'<p class="{"notice" if line in study.notices else "lede"}">{escape(line)}</p>' for line in rest),
            html.table(techniques(study)),
            *_frontiers(figures),
            html.table(_spent(study)),
            html.table(_failures(study)),
            f'<h2>Provenance</h2><div class="provenance">{html.table(_provenance(study), "")}</div></main>',
            "<footer>Made by isoflop. This file holds all its data and asks the network for nothing.</footer>",
            f"<script>{plotly_js}</script><script>{draw}</script></body></html>",
        ]
    )


def _figures(study: ShrinkStudy) -> dict[Axis, str]:
    """The frontier on each axis on which one can be drawn, as plotly's JSON."""
    found: dict[Axis, str] = {}
    for axis in _AXES:
        try:
            found[axis] = study.frontier_on(axis).plot().to_json()
        except FrontierError:
            continue
    return found


def _frontiers(figures: dict[Axis, str]) -> list[str]:
    parts = [
        "<h2>Frontier</h2>",
        '<p class="sub">Quality on the dev examples against the cost of a use, with its share of what was paid once. '
        "Each point is a method stopped after one of its models; bars are 95% intervals.</p>",
    ]
    for axis in figures:
        words = AXIS_WORDS[axis]
        parts.append(f'<h3>{words}</h3><div class="panel"><div id="frontier-{axis}" class="plot"></div></div>')
    return parts


def _spent(study: ShrinkStudy) -> Grid:
    rows = [
        (role, f"{cost.wall_s:.1f}", amount(cost.flops), amount(cost.bytes_moved))
        for role, cost in study.bill.by_role.items()
    ]
    return Grid("What the study itself spent", ("on", ">seconds", ">FLOPs", ">bytes moved"), rows)


def _failures(study: ShrinkStudy) -> Grid:
    rows = [(e.method, e.status) for e in study.ended if not e.status.startswith("ok")]
    return Grid("Refused, skipped, failed or stopped", ("technique", "why"), rows)


def _provenance(study: ShrinkStudy) -> Grid:
    facts = {**provenance(), "budgets": [str(b) for b in study.asked.budgets], "seed": study.asked.seed}
    return Grid("Provenance", ("what", "value"), [(name, json.dumps(value)) for name, value in facts.items()])


def _safe(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
