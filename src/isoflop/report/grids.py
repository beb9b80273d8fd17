"""The tables of a study, once, for the screen and for the page."""

from __future__ import annotations

import json
import math
import time

from isoflop.frontier import Estimate, Point
from isoflop.frontier.words import Grid, amount, cost, interval, points, quality
from isoflop.report.findings import Findings

MOST_ROWS = 12
MOST_PROBLEMS = 500
MOST_CHARACTERS = 200


def frontier(found: Findings) -> Grid:
    """The points that no other beats."""
    rows = [
        (amount(p.cost.value), quality(p.quality.value, found.share), interval(p.quality, found.share), found.name(p))
        for p in _thinned(found.frontier.points if found.frontier else [])
    ]
    return Grid("Frontier", (f">{found.axis} a problem", ">!quality", ">95%", "run"), rows)


def methods(found: Findings) -> Grid:
    """Each method at its last answer."""
    rows: list[tuple[str, ...]] = []
    for s in found.summaries:
        gain, p = ("", "") if s.gain is None else (points(s.gain.estimate, found.share), f"{s.gain.p:.2g}")
        name = found.named(s.curve.method, s.curve.model) + (" (bound)" if s.curve.bound else "")
        numbers = quality(s.last.quality.value, found.share), interval(s.last.quality, found.share)
        rows.append((*numbers, amount(s.last.cost.value), quality(s.area.value, found.share), gain, p, name))
    columns = (">!quality", ">95%", f">{found.axis}", ">area", ">vs single, same cost", ">p", "method")
    bound = any(s.curve.bound for s in found.summaries)
    note = "A bound looks at the grades: what a perfect verifier would reach." if bound else ""
    return Grid("Methods", columns, rows, note)


def plans(found: Findings) -> Grid:
    """What to run at budgets from the cheapest point to the dearest."""
    rows: list[tuple[str, ...]] = []
    for p in found.plans:
        more = "" if p.tenfold is None else quality(p.tenfold.quality.value, found.share)
        rows.append(
            (
                cost(p.budget.limit, found.axis),
                quality(p.choice.quality.value, found.share),
                interval(p.choice.quality, found.share),
                f"at most {more}" if p.tenfold and p.tenfold.bound else more,
                found.name(p.choice),
            )
        )
    note = "Chosen on dev, measured on test." if found.split else "Chosen and measured on the same; optimism taken off."
    return Grid("Plan", (">budget a problem", ">!expect", ">95%", ">10x buys", "run"), rows, note)


def coverage(found: Findings) -> Grid:
    """Share of problems that at least one of k samples solves, and what the law says of ten times as many."""
    columns = (">k", *(f">{found.model(c.model)}" for c in found.coverage))
    rows: list[tuple[str, ...]] = []
    most = max((len(c.k) for c in found.coverage), default=0)
    for k in (2**i for i in range(most.bit_length())):
        rows.append((str(k), *(_share(c.at(k)) if k <= len(c.k) else "" for c in found.coverage)))
    if most:
        rows.append((f"{10 * most} by the law", *(_share(c.forecast(10 * most)) for c in found.coverage)))
    note = f"Beware: {found.coverage_caveat}." if found.coverage_caveat else ""
    return Grid("Coverage: solved by at least one of k samples", columns, rows, note)


def roles(found: Findings) -> Grid:
    """What was spent on what."""
    columns = ("role", ">samples", ">shared", ">replayed", f">charged {found.axis}", ">budgeted", ">paid")
    rows: list[tuple[str, ...]] = []
    for role, row in found.roles.items():
        spent = (amount(c[found.axis]) for c in (row.charged, row.budgeted, row.paid))
        rows.append((role, *map(str, (row.samples, row.shared, row.replayed)), *spent))
    note = "Charged: what the curves show. Budgeted: each shared sample once. Paid: without those kept from before."
    return Grid("Spent", columns, rows, note)


def budgets(found: Findings) -> Grid:
    """What was allowed."""
    rows = [(b.budget.axis, amount(b.budget.limit), amount(b.spent), amount(b.overshoot)) for b in found.budgets]
    return Grid("Budgets", ("axis", ">limit", ">spent", ">overshoot"), rows)


def troubles(found: Findings) -> Grid:
    """What failed or was skipped."""
    rows = [
        (str(len(t.keys)), t.status, found.named(t.method, t.model), ", ".join(t.keys[:3]))
        for t in found.troubles[:MOST_ROWS]
    ]
    more = len(found.troubles) - MOST_ROWS
    return Grid(
        "Failed or skipped", (">rows", "what", "method", "for example"), rows, f"And {more} more." if more > 0 else ""
    )


def _share(e: Estimate | None) -> str:
    return "" if e is None else f"{quality(e.value, True)} [{interval(e, True)}]"


def _thinned(rows: list[Point]) -> list[Point]:
    """At most so many, the ends kept and the rest evenly spread."""
    if len(rows) <= MOST_ROWS:
        return rows
    return [rows[round(i * (len(rows) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]


def ledger(found: Findings) -> Grid:
    """What each method spent on what."""
    columns = ("method", "role", ">samples", ">shared", ">replayed", f">charged {found.axis}", ">budgeted", ">paid")
    rows: list[tuple[str, ...]] = []
    for row in found.study.ledger:
        spent = (amount(c[found.axis]) for c in (row.charged, row.budgeted, row.paid))
        counts = map(str, (row.samples, row.shared, row.replayed))
        rows.append((found.named(row.method or "(reached no method)", row.model), row.role, *counts, *spent))
    return Grid("By method", columns, rows)


def problems(found: Findings) -> Grid:
    """Each problem: how often it was solved, and what the planned method answered; the hardest first."""
    models = list(dict.fromkeys(d.graded.model for d in found.difficulty))
    counts = {(d.graded.model, d.graded.key): d for d in found.difficulty}
    choice = found.plans[-1].choice if found.plans else None
    answers = found.answers(choice) if choice else {}
    rows: list[tuple[str, ...]] = []
    for key in dict.fromkeys(d.graded.key for d in found.difficulty):
        of_key = [counts.get((model, key)) for model in models]
        g = next(d.graded for d in of_key if d)
        shares = ("" if d is None else f"{d.graded.c} of {d.graded.n} [{interval(d.p, True)}]" for d in of_key)
        answer = answers.get(key)
        said = "" if answer is None else f"{answer.answer[:MOST_CHARACTERS]}"
        scored = "" if answer is None else _verdict(answer.quality, found.share)
        rows.append((key, g.split, "" if g.level is None else str(g.level), *shares, said, scored))
    note = f"Answers are those of {found.name(choice)}." if choice else ""
    if len(rows) > MOST_PROBLEMS:
        note += f" The {MOST_PROBLEMS} hardest of {len(rows)}; export the run for all."
    columns = ("problem", "split", ">level", *(f">{found.model(m)}" for m in models), "answer", ">quality")
    return Grid("Problems", columns, rows[:MOST_PROBLEMS], note.strip())


def _verdict(quality_of_it: float, share: bool) -> str:
    if share and quality_of_it in (0.0, 1.0):
        return "right" if quality_of_it else "wrong"
    return "not graded" if math.isnan(quality_of_it) else quality(quality_of_it, share)


def provenance(found: Findings) -> Grid:
    """All that was asked, and what it ran on."""
    info = found.study.info
    rows = [("run", info.run), ("begun", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(info.created)))]
    rows += [("status", info.status), ("isoflop store", found.study.store.name)]
    for part in (info.config, info.provenance, info.outcome):
        rows += [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in part.items()]
    return Grid("Provenance", ("what", "value"), rows)
