"""The frontier in characters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from rich.text import Text

from isoflop.frontier import Curve
from isoflop.frontier.words import AXIS_WORDS, amount, quality
from isoflop.report.findings import Findings

MARKS = "●▲■◆✚★"
COLOURS = ("bright_blue", "dark_orange", "green3", "magenta", "cyan", "yellow3")
_LEFT = 8
_MOST_CURVES = 12


@dataclass
class _Canvas:
    """Characters with styles; the origin is the lower left."""

    width: int
    height: int
    cells: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict[tuple[int, int], tuple[str, str]])

    def put(self, x: int, y: int, mark: str, style: str) -> None:
        if 0 <= x < self.width and 0 <= y < self.height:
            self.cells[x, y] = (mark, style)

    def line(self, y: int) -> Text:
        text = Text()
        for x in range(self.width):
            text.append(*self.cells.get((x, y), (" ", "")))
        return text


def plot(found: Findings, width: int = 80, height: int = 16) -> Text | None:
    """Quality against log cost: the points of each curve, and the frontier as a line of steps; None without one.

    Args:
        found: what to draw.
        width: of the whole picture (characters).
        height: of the plot inside its axes (lines).
    """
    front, share = found.frontier, found.share
    if front is None:
        return None
    bands = [(c, front.band(c)) for c in front.curves[:_MOST_CURVES]]
    costs = np.concatenate([b.cost[b.cost > 0] for _, b in bands])
    qualities = np.concatenate([b.quality for _, b in bands])
    low_x, high_x = _widened(float(np.log(costs.min())), float(np.log(costs.max())), 0.02)
    low_y, high_y = _widened(float(qualities.min()), float(qualities.max()), 0.06)
    if share:
        low_y, high_y = max(low_y, 0.0), min(high_y, 1.0)
    canvas = _Canvas(width - _LEFT - 1, height)

    def place(x: float, y: float) -> tuple[int, int]:
        across = (math.log(x) - low_x) / (high_x - low_x) if x > 0 else 0.0
        return round(across * (canvas.width - 1)), round((y - low_y) / (high_y - low_y) * (height - 1))

    _stairs(canvas, [place(p.cost.value, p.quality.value) for p in front.points])
    for i, (c, band) in enumerate(bands):
        for x, y in zip(band.cost, band.quality, strict=True):
            canvas.put(*place(x, y), *_style(i, c))
    text = Text(no_wrap=True)
    every = max(1, (height - 1) // 4)
    for y in reversed(range(height)):
        shown = y % every == 0
        label = quality(low_y + (high_y - low_y) * y / (height - 1), share) if shown else ""
        text.append(f"{label:>{_LEFT - 1}} ", "dim").append("┤" if shown else "│", "dim").append(canvas.line(y))
        text.append("\n")
    text.append(_axis(canvas.width, low_x, high_x))
    text.append(f"\n{'':{_LEFT}} {AXIS_WORDS[front.axis]} a problem, log scale", "dim")
    text.append("   ━ frontier\n", "bold")
    for i, (c, _) in enumerate(bands):
        mark, style = _style(i, c)
        name = found.named(c.method, c.model)
        text.append(f"{'':{_LEFT}} {mark} ", style)
        text.append(_shortened(f"bound: {name}" if c.bound else name, width - _LEFT - 4) + "\n")
    if len(front.curves) > _MOST_CURVES:
        text.append(f"{'':{_LEFT}} and {len(front.curves) - _MOST_CURVES} more, not drawn\n", "dim")
    return text


def _style(i: int, curve: Curve) -> tuple[str, str]:
    return ("·", "dim") if curve.bound else (MARKS[i % len(MARKS)], COLOURS[i % len(COLOURS)])


def _stairs(canvas: _Canvas, places: list[tuple[int, int]]) -> None:
    for (x, y), (next_x, next_y) in zip(places, [*places[1:], (canvas.width, None)], strict=True):
        for column in range(x, next_x):
            canvas.put(column, y, "━", "bold")
        if next_y is not None and next_y > y:
            canvas.put(next_x, y, "┛", "bold")
            for row in range(y + 1, next_y):
                canvas.put(next_x, row, "┃", "bold")
            canvas.put(next_x, next_y, "┏", "bold")


def _axis(width: int, low: float, high: float) -> Text:
    """Ticks at 1, 2 and 5 times powers of ten, where there is room for their numbers."""
    decades = range(math.floor(low / math.log(10)) - 1, math.ceil(high / math.log(10)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= math.log(m * 10.0**d) <= high]
    rule, numbers, free = ["─"] * width, [" "] * width, 0
    for value in ticks:
        x = round((math.log(value) - low) / (high - low) * (width - 1))
        word = amount(value)
        start = max(0, min(x - len(word) // 2, width - len(word)))
        if start >= free:
            rule[x] = "┬"
            numbers[start : start + len(word)] = word
            free = start + len(word) + 2
    return Text(f"{'':{_LEFT}}└{''.join(rule)}\n{'':{_LEFT}} {''.join(numbers)}", "dim")


def _widened(low: float, high: float, by: float) -> tuple[float, float]:
    room = (high - low) * by or 0.5 * max(abs(high), 0.1)
    return low - room, high + room


def _shortened(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"
