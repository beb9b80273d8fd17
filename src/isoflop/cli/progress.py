"""How far a run is, while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from isoflop.cli.screen import err
from isoflop.cost import Budget
from isoflop.frontier.words import amount
from isoflop.run import Snapshot

_LINE_EVERY_S = 10.0
_BAR_WIDTH = 24


@dataclass
class Progress:
    """Shows the snapshots of a run: a live picture in a terminal, a line now and then elsewhere.

    Args:
        budgets: what the run is limited to.
        live: the picture; None where there is no terminal to paint on.
    """

    budgets: Sequence[Budget]
    live: Live | None
    _stopping: bool = False
    _trouble: bool = False
    _next_line_s: float = field(default_factory=lambda: time.monotonic() + _LINE_EVERY_S)

    def __call__(self, now: Snapshot) -> None:
        """Show one snapshot; that it is stopping, or in trouble, is said once and stays on the screen."""
        if now.stopping and not self._stopping:
            err.print(
                f"stopping ({now.stopping}): waiting for {now.in_flight} samples in flight, which are kept (interrupt "
                f"again to leave them); go on later with: isoflop resume {now.run}",
                soft_wrap=True,
            )
        if now.trouble and not self._trouble:
            err.print(f"in trouble: {now.trouble}", soft_wrap=True)
        self._stopping, self._trouble = bool(now.stopping), bool(now.trouble)
        if self.live:
            self.live.update(picture(now, self.budgets), refresh=True)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            err.print(line(now, self.budgets), soft_wrap=True)


@contextmanager
def progress(budgets: Sequence[Budget]) -> Generator[Progress]:
    """A display for one run, gone when the run is over."""
    if not err.is_terminal:
        yield Progress(budgets, None)
        return
    with Live(Text("opening"), console=err, auto_refresh=False, transient=True) as live:
        yield Progress(budgets, live)


def line(now: Snapshot, budgets: Sequence[Budget]) -> str:
    """A snapshot in one line."""
    spent = ", ".join(f"{b.axis} {amount(now.spent[b.axis])} of {amount(b.limit)}" for b in budgets)
    return (
        f"{now.ended}/{now.arms} done, {now.samples} samples ({now.replayed} replayed), {now.in_flight} in flight; "
        f"{spent or f'{amount(now.spent.tokens_out)} tokens_out, {now.spent.wall_s:.0f} s'}"
    )


def picture(now: Snapshot, budgets: Sequence[Budget]) -> RenderableType:
    """A snapshot with a bar for each thing that comes to an end."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("done", _bar(now.ended, now.arms), f"{now.ended} of {now.arms} methods x problems")
    for b in budgets:
        grid.add_row(b.axis, _bar(now.spent[b.axis], b.limit), f"{amount(now.spent[b.axis])} of {amount(b.limit)}")
    if not budgets:
        grid.add_row("spent", "", f"{amount(now.spent.tokens_out)} tokens_out, {now.spent.wall_s:.0f} s")
    grid.add_row("samples", "", f"{now.samples}, {now.replayed} replayed, {now.in_flight} in flight")
    lines: list[RenderableType] = [Text(f"run {now.run}"), grid]
    if now.trouble:
        lines.append(Text(now.trouble, style="red"))
    if now.stopping:
        lines.append(Text(f"stopping: {now.stopping}", style="yellow"))
    return Group(*lines)


def _bar(done: float, of: float) -> ProgressBar:
    return ProgressBar(total=of, completed=min(done, of) if math.isfinite(done) else 0, width=_BAR_WIDTH)
