"""A study of cheaper models in words: one table and a few sentences, for the screen and for the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from isoflop.cost import Axis
from isoflop.frontier import Estimate
from isoflop.frontier.words import Grid, amount, cost
from isoflop.run.shrink.kept import Candidate

if TYPE_CHECKING:
    from isoflop.run.shrink.study import ShrinkStudy, Technique

AXES_SHOWN: tuple[Axis, ...] = ("flops", "bytes_moved", "peak_bytes", "wall_s")
_HEADS: dict[Axis, str] = {
    "flops": "FLOPs",
    "bytes_moved": "bytes moved",
    "peak_bytes": "peak memory",
    "wall_s": "latency",
    "joules": "joules",
}


def headline(study: ShrinkStudy) -> str:
    """The answer in one sentence."""
    c, axis = study.chosen, study.asked.axis
    if c is study.original:
        return f"Do nothing: no cheaper model was shown to hold the floor of {study.asked.floor}."
    passed = next(v for v in study.verdicts if v.candidate is c)
    figure = study.workload.quality
    is_, was = (figure(x.test.scores) if x.test else math.nan for x in (c, study.original))
    return (
        f"Use {c.name} ({c.note}): {study.share(c, axis).value:.3g}x the {_HEADS[axis]} of a use, at a quality of "
        f"{is_:.4g} on test; the original has {was:.4g}, the floor asks for {study.asked.floor.of(was):.4g} "
        f"(margin {_signed(passed.margin)})."
    )


def sentences(study: ShrinkStudy) -> list[str]:
    """What else a reader should know, the most important first."""
    said = list(study.notices)
    if study.chosen is not study.original:
        earned = study.break_even(study.chosen)
        said.append(
            f"What it cost once is earned back after {_uses(earned)} uses; you asked for {amount(study.asked.uses)}."
        )
        worst, base = study.worst(study.chosen), study.worst(study.original)
        if worst.flops > 1.001 * study.per_use(study.chosen).flops:
            said.append(f"Its dearest example takes {worst.flops / base.flops:.2f}x the FLOPs of the original.")
    said += [f"{v.candidate.name} {v.why}." for v in study.verdicts if v.why.startswith("fails")]
    said += [f"{order[0].upper()}{order[1:]}." for order in study.orders]
    spent = study.bill.total
    limits = ", ".join(str(b) for b in study.asked.budgets)
    said.append(f"The study took {spent.wall_s:.0f} s and {amount(spent.flops)} FLOPs (budget {limits or 'none'}).")
    return said


def techniques(study: ShrinkStudy) -> Grid:
    """A row for each method and combination, at the best of its steps."""
    axis = study.asked.axis
    shown: tuple[Axis, ...] = AXES_SHOWN if axis in AXES_SHOWN else (*AXES_SHOWN, axis)
    columns = (
        "technique",
        ">!quality",
        ">95%",
        *(f">{_HEADS[a]}" for a in shown),
        f">once ({axis})",
        ">break-even uses",
        "verdict",
    )
    rows = [_row(study, t, shown) for t in study.techniques]
    split = "dev examples; costs are shares of the original's, for one use"
    return Grid("Techniques", columns, rows, f"Quality on {len(study.original.dev)} {split}.")


def narrow(study: ShrinkStudy) -> tuple[Grid, Grid]:
    """The same in two tables, for a narrow screen: what each gives, and what it costs to get it."""
    whole = techniques(study)
    cut = len(whole.columns) - 3
    first = Grid(whole.title, whole.columns[:cut], [row[:cut] for row in whole.rows if row[1]], whole.note)
    rows = [(row[0].partition(":")[0], *row[cut:]) for row in whole.rows]
    return first, Grid("Verdicts", (whole.columns[0], *whole.columns[cut:]), rows)


def _row(study: ShrinkStudy, t: Technique, shown: tuple[Axis, ...]) -> tuple[str, ...]:
    if t.candidate is None or t.quality is None:
        return (t.name, *[""] * (4 + len(shown)), t.verdict)
    shares = [_share(study.share(t.candidate, a)) for a in shown]
    once = "" if t.candidate is study.original else _once(study, t.candidate)
    earned = "" if t.break_even is None or t.candidate is study.original else _uses(t.break_even)
    name = t.name if t.candidate is study.original else f"{t.candidate.name}: {t.candidate.note}"
    return (
        name,
        f"{t.quality.value:.4g}",
        f"{t.quality.low:.4g} to {t.quality.high:.4g}",
        *shares,
        once,
        earned,
        t.verdict,
    )


def _once(study: ShrinkStudy, c: Candidate) -> str:
    axis = study.asked.axis
    return cost(c.once[axis], axis).replace("seconds", "s")


def _share(e: Estimate) -> str:
    """A share, with its interval where there is any doubt."""
    if math.isnan(e.value):
        return ""
    if e.high - e.low < 0.005:
        return f"{e.value:.2f}x"
    return f"{e.value:.2f}x [{e.low:.2f}, {e.high:.2f}]"


def _uses(e: Estimate) -> str:
    """Uses to break even, with the interval."""
    if math.isnan(e.value):
        return "unknown"
    words = [("never" if math.isinf(x) else amount(x)) for x in (e.value, e.low, e.high)]
    return words[0] if words[0] == words[1] == words[2] else f"{words[0]} [{words[1]}, {words[2]}]"


def _signed(e: Estimate) -> str:
    return f"{e.value:+.4g} [{e.low:+.4g}, {e.high:+.4g}]"


def text(study: ShrinkStudy) -> str:
    """All of it as plain text."""
    return "\n".join([headline(study), *sentences(study), "", str(techniques(study))])
