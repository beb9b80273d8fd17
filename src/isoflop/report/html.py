"""A study as one page: a self-contained HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np

from isoflop.cost import Axis
from isoflop.frontier import Coverage, Curve, Difficulty, Frontier
from isoflop.frontier.words import AXIS_WORDS, Grid, amount, cost, interval, points, quality
from isoflop.record.file import replacing
from isoflop.report import grids
from isoflop.report.findings import SHOWN_AXES, Findings
from isoflop.run import Study

_MOST_POINTS = 120
_LAW_POINTS = 60


def write(study: Study, path: Path | str, axis: Axis | None = None) -> None:
    """Write the page to `path`, whole or not at all.

    Args:
        study: what to show.
        path: the file.
        axis: what cost means when the page is opened; the first budget's axis unless given.

    Raises:
        FrontierError: `axis` is given and no frontier can be drawn on it.
        OSError: the file cannot be written.
    """
    page = render(study, axis)
    with replacing(Path(path)) as new:
        new.write_text(page, encoding="utf-8")


def render(study: Study, axis: Axis | None = None) -> str:
    """The page. All that comes from users or models is escaped, and the page's own policy lets no other script run."""
    found = Findings(study, axis)
    style = (files("isoflop.report") / "page.css").read_text(encoding="utf-8")
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    script = (files("isoflop.report") / "page.js").read_text(encoding="utf-8")
    allowed = " ".join(digest(s) for s in (plotly, script))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    axes = _axes(found)
    title = f"{study.info.config.get('task', 'study')}: quality against cost"
    return "\n".join(
        [
            '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body>",
            *_opening(found),
            *_frontier_part(found, axes),
            *_coverage_part(found),
            *_difficulty_part(found),
            *_spent_part(axes),
            *_ending(found),
            f'<script type="application/json" id="data">{_data(found, axes)}</script>',
            f"<script>{plotly}</script>",
            f"<script>{script}</script>",
            "</body></html>",
        ]
    )


def digest(script: str) -> str:
    """A script as the page's policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _axes(found: Findings) -> dict[Axis, Findings | str]:
    """The findings on each axis that the page can show, or why it cannot."""
    shown = dict.fromkeys((found.axis, *SHOWN_AXES))
    axes: dict[Axis, Findings | str] = {}
    for axis in sorted(shown, key=list(AXIS_WORDS).index):
        why = found.on(axis)
        axes[axis] = why if isinstance(why, str) else found.of(axis)
    return axes


# The words


def _opening(found: Findings) -> list[str]:
    info = found.study.info
    models = cast("list[str]", info.config.get("models", []))
    first, *rest = found.headline
    when = time.strftime("%d %B %Y", time.gmtime(info.created))
    about = " · ".join([str(info.config.get("task", "")), *models[:3], when, f"run {info.run}"])
    return [
        '<header><span class="brand">iso<i>flop</i></span>',
        f'<span class="grow">{escape(about)}</span><button id="theme" type="button">light / dark</button></header>',
        f"<main><h1>{escape(first)}</h1>",
        *(f'<p class="lede">{escape(line)}</p>' for line in rest),
        *(f'<p class="notice">{escape(line)}</p>' for line in found.notices),
        f'<div class="cards">{"".join(_cards(found))}</div>',
    ]


def _cards(found: Findings) -> list[str]:
    cards: list[tuple[str, str]] = []
    if found.plans:
        best = found.plans[-1]
        e = best.choice.quality
        what = "solved" if found.share else "quality"
        cards.append((quality(e.value, found.share), f"{what}, 95% interval {interval(e, found.share)}"))
        cards.append((amount(best.choice.cost.value), f"{AXIS_WORDS[found.axis]} a problem"))
        if (once := found.once(best.choice)) is not None:
            unit = " points" if found.share else ""
            gained = points(once.gain.estimate, found.share).partition(" [")[0] + unit
            cards.append((gained, f"over asking once, for {once.times:.3g} times the cost"))
    for b in found.budgets[:1]:
        kept = "kept" if b.overshoot == 0 else f"exceeded by {cost(b.overshoot, b.budget.axis)}"
        share = b.spent / b.budget.limit
        shown = f"{share:.0%}" if not math.isnan(share) else "unknown"
        cards.append((shown, f"of the budget {cost(b.budget.limit, b.budget.axis)} spent; {kept}"))
    return [f'<div class="card"><b>{escape(b)}</b><span>{escape(words)}</span></div>' for b, words in cards]


def _frontier_part(found: Findings, axes: dict[Axis, Findings | str]) -> list[str]:
    split = f"the {found.split} problems" if found.split else "all problems"
    parts = [
        "<h2>Frontier</h2>",
        '<p class="sub">Each point is a method stopped after one of its answers: what it cost and how good it was, on '
        f"{split}. The black line is the best to be had at each cost. Shades are 95% intervals (paired bootstrap over "
        "problems).</p>",
        '<div class="panel"><div class="axes"><span>cost in</span>',
    ]
    for axis, on in axes.items():
        off = f' disabled title="{escape(on, quote=True)}"' if isinstance(on, str) else ""
        parts.append(f'<button type="button" value="{axis}"{off}>{escape(AXIS_WORDS[axis])}</button>')
    parts.append("</div>")
    parts += [
        f'<p class="why">{escape(AXIS_WORDS[a])}: {escape(on)}.</p>' for a, on in axes.items() if isinstance(on, str)
    ]
    parts.append('<div id="frontier" class="plot"></div></div>')
    for axis, on in axes.items():
        if isinstance(on, Findings):
            parts += [
                f'<section data-axis="{axis}"{"" if axis == found.axis else " hidden"}>',
                *(table(make(on)) for make in (grids.plans, grids.frontier, grids.methods)),
                "</section>",
            ]
    return parts


def _coverage_part(found: Findings) -> list[str]:
    if not found.coverage:
        return []
    return [
        "<h2>Coverage</h2>",
        '<p class="sub">The share of problems that at least one of k independent samples solves: what a perfect '
        "verifier would make of them. Solid is measured (unbiased pass@k), dashed is the law of a Beta distribution of "
        "success probabilities, fitted to the counts.</p>",
        '<div class="panel"><div id="coverage" class="plot low"></div></div>',
        table(grids.coverage(found), ""),
    ]


def _difficulty_part(found: Findings) -> list[str]:
    if not found.difficulty:
        return []
    return [
        "<h2>Difficulty</h2>",
        '<p class="sub">How often a single sample solves each problem, with exact 95% intervals.</p>',
        '<div class="panel"><div id="difficulty" class="plot low"></div></div>',
        f"<details><summary>All problems and answers</summary>{table(grids.problems(found), '')}</details>",
    ]


def _spent_part(axes: dict[Axis, Findings | str]) -> list[str]:
    parts = ["<h2>Where it went</h2>", '<div class="panel"><div id="ledger" class="plot flat"></div></div>']
    for axis, on in axes.items():
        if isinstance(on, Findings):
            tables = "".join(table(make(on)) for make in (grids.roles, grids.ledger, grids.budgets))
            parts.append(f'<section data-axis="{axis}" hidden>{tables}</section>')
    return parts


def _ending(found: Findings) -> list[str]:
    troubles = grids.troubles(found)
    return [
        *(["<h2>Failed or skipped</h2>", table(troubles, "")] if troubles.rows else []),
        "<h2>Provenance</h2>",
        f'<div class="provenance">{table(grids.provenance(found), "")}</div></main>',
        "<footer>Made by isoflop. This file holds all its data and asks the network for nothing.</footer>",
    ]


def table(grid: Grid, title: str | None = None) -> str:
    """A table of words; nothing where it has no rows."""
    if not grid.rows:
        return ""
    classes = ["n key" if c.startswith(">!") else "n" if c.startswith(">") else "" for c in grid.columns]
    heads = "".join(
        f'<th class="{k}">{escape(c.lstrip(">!"))}</th>' for k, c in zip(classes, grid.columns, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(_cell(k, cell) for k, cell in zip(classes, row, strict=True))}</tr>" for row in grid.rows
    )
    note = f'<p class="note">{escape(grid.note)}</p>' if grid.note else ""
    head = escape(grid.title if title is None else title)
    return (
        f'{f"<h3>{head}</h3>" if head else ""}<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(kind: str, words: str) -> str:
    verdict = f" {words}" if words in ("right", "wrong") else ""
    return f'<td class="{kind}{verdict}">{escape(words)}</td>'


# The data of the plots


def _data(found: Findings, axes: dict[Axis, Findings | str]) -> str:
    """JSON that cannot end the element it stands in."""
    data = {
        "axis": found.axis if found.frontier else None,
        "share": found.share,
        "axes": {axis: {"why": on} if isinstance(on, str) else _axis_data(on) for axis, on in axes.items()},
        "coverage": [_coverage_data(found, c) for c in found.coverage],
        "difficulty": _difficulty_data(found, found.difficulty),
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _axis_data(found: Findings) -> dict[str, Any]:
    front = cast(Frontier, found.frontier)
    methods = list(dict.fromkeys(c.method for c in front.curves if not c.bound))
    return {
        "words": AXIS_WORDS[found.axis],
        "curves": [_curve_data(found, front, c, methods) for c in front.curves],
        "points": [{"x": _plain(p.cost.value), "y": _plain(p.quality.value)} for p in front.points],
        "roles": [
            {
                "role": role,
                "charged": _plain(row.charged[found.axis]),
                "budgeted": _plain(row.budgeted[found.axis]),
                "paid": _plain(row.paid[found.axis]),
            }
            for role, row in found.roles.items()
        ],
    }


def _curve_data(found: Findings, front: Frontier, curve: Curve, methods: list[str]) -> dict[str, Any]:
    band = front.band(curve)
    keep = _thinned(len(curve.steps))
    return {
        "name": found.named(curve.method, curve.model) + (" (bound)" if curve.bound else ""),
        "bound": curve.bound,
        "colour": 0 if curve.bound else methods.index(curve.method),
        "symbol": found.models.index(curve.model),
        "step": [curve.steps[i] for i in keep],
        **{key: [_plain(v) for v in getattr(band, field)[keep]] for key, field in _BAND.items()},
    }


_BAND = {"x": "cost", "y": "quality", "low": "low", "high": "high"}


def _thinned(n: int) -> list[int]:
    """Places of at most so many of n points, evenly spread over their logarithm."""
    if n <= _MOST_POINTS:
        return list(range(n))
    return sorted({round(i) - 1 for i in np.geomspace(1, n, _MOST_POINTS).tolist()})


def _coverage_data(found: Findings, c: Coverage) -> dict[str, Any]:
    keep = _thinned(len(c.k))
    law = None
    if c.law is not None:
        ks = np.geomspace(1, 10 * len(c.k), _LAW_POINTS).tolist()
        ahead = [e for k in ks if (e := c.forecast(k)) is not None]
        law = {"k": ks, "y": [_plain(e.value) for e in ahead]}
        law |= {"low": [_plain(e.low) for e in ahead], "high": [_plain(e.high) for e in ahead]}
    fields = {"k": c.k, "y": c.value, "low": c.low, "high": c.high}
    measured = {name: [_plain(v) for v in array[keep]] for name, array in fields.items()}
    return {"model": found.model(c.model), "colour": found.models.index(c.model), **measured, "law": law}


def _difficulty_data(found: Findings, rows: list[Difficulty]) -> list[dict[str, Any]]:
    """Problems by rank of their mean success probability over models, so that models are seen on the same ones."""
    by_key: dict[str, list[float]] = {}
    for d in rows:
        by_key.setdefault(d.graded.key, []).append(d.p.value)
    order = sorted(by_key, key=lambda key: sum(by_key[key]) / len(by_key[key]))
    rank = {key: i + 1 for i, key in enumerate(order)}
    models: dict[str, list[Difficulty]] = {}
    for d in rows:
        models.setdefault(d.graded.model, []).append(d)
    return [
        {
            "model": found.model(model),
            "colour": found.models.index(model),
            "rank": [rank[d.graded.key] for d in of],
            "key": [d.graded.key for d in of],
            "level": [d.graded.level for d in of],
            "n": [d.graded.n for d in of],
            "c": [d.graded.c for d in of],
            "p": [d.p.value for d in of],
            "low": [d.p.low for d in of],
            "high": [d.p.high for d in of],
        }
        for model, unsorted in models.items()
        for of in [sorted(unsorted, key=lambda d: rank[d.graded.key])]
    ]


def _plain(x: float) -> float | None:
    return None if math.isnan(x) else float(f"{x:.6g}")
