"""The commands that train: `train tiny`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from isoflop.cli.laws import number
from isoflop.cli.screen import err, out
from isoflop.frontier.words import amount
from isoflop.model.load import load_class
from isoflop.task.generate import generator

train_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
_EVERY_S = {True: 0.5, False: 10.0}  # between two reports, on a terminal and elsewhere


@train_app.callback()
def train() -> None:
    """Train models."""


@train_app.command("tiny")
def train_tiny(
    task: Annotated[str, typer.Option(metavar="TASK", help="A generator, as chain or automata-direct.")],
    params: Annotated[str, typer.Option(metavar="N", help="Parameters, as 450k; the nearest network is taken.")],
    flops: Annotated[str, typer.Option(metavar="AMOUNT", help="Training compute, forward and backward, as 2e14.")],
    seed: Annotated[int, typer.Option(help="Of the weights at the start and the order of the data.")] = 0,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out-dir", "-o", metavar="FOLDER", help="Where to.", show_default="TASK-N-seedSEED"),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Problems a step.")] = 64,
    groups: Annotated[int, typer.Option(min=1, help="Of problems of about equal length, computed in turn.")] = 2,
    rate: Annotated[float, typer.Option(min=1e-9, help="Peak learning rate at width 64.")] = 4e-3,
    curriculum: Annotated[float, typer.Option(min=0, max=1, help="Part over which difficulties open up.")] = 0.2,
    problems: Annotated[int, typer.Option(min=1, help="Held-out problems a difficulty, for the card.")] = 200,
) -> None:
    """Train a tiny model from scratch; the same command goes on where a killed one stopped.

    FOLDER then has the model with its card, and the learning curve (curve.jsonl), which `isoflop fit` reads.
    """
    load_class("tiny")  # says what to install where torch is missing
    torch, trainer, ship = (
        importlib.import_module(name) for name in ("torch", "isoflop.model.tiny.train", "isoflop.model.tiny.ship")
    )
    torch.set_num_threads(1)  # more bring such small products little, and the bits then hang on their number
    source, size = generator(task), number(params)
    folder = out_dir or Path(f"{task}-{params}-seed{seed}")
    recipe = trainer.Recipe(rows=rows, groups=groups, rate=rate, curriculum=curriculum)
    training: Any = trainer.Training(source, size, number(flops), seed, folder, recipe)
    if training.at.step:
        err.print(f"{folder}: going on after {training.at.step} steps", soft_wrap=True)
    with _shown() as shown:
        display = _Display(number(flops), training.at.flops, shown)
        for at in training.run():
            display(at)
    trained = training.trained
    err.print(f"asking {problems} held-out problems of each difficulty", soft_wrap=True)
    name = ship.pack(trained, source, folder, problems)
    cost = trained.cost
    out.print(
        f"{folder / name}.md: loss {trained.rows[-1].loss:.4g} after {amount(cost.flops)} FLOP, {cost.wall_s:,.0f} s, "
        f"{amount(cost.joules)} J",
        soft_wrap=True,
    )
    out.print(f"use it as --model tiny:{folder}; its curve is {folder / 'curve.jsonl'}", soft_wrap=True)


@contextmanager
def _shown() -> Generator[Live | None]:
    if not err.is_terminal:
        yield None
        return
    with Live(Text("starting"), console=err, auto_refresh=False, transient=True) as live:
        yield live


@dataclass
class _Display:
    """Where a training stands and how long it will take, painted over or a line now and then.

    Args:
        flops: to spend.
        before: spent before it went on.
        live: the picture; None where there is no terminal.
    """

    flops: float
    before: float
    live: Live | None

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._next = self._started + _EVERY_S[self.live is not None]

    def __call__(self, at: Any) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S[self.live is not None]
        left_s = (now - self._started) * (self.flops - at.flops) / (at.flops - self.before)
        line = (
            f"{min(at.flops / self.flops, 1):.0%} of {self.flops:.3g} FLOP, step {at.step}, loss {at.loss:.4f}, "
            f"{at.wall_s:,.0f} s, {amount(at.joules)} J; {max(left_s, 0):,.0f} s left"
        )
        if self.live:
            self.live.update(Text(line), refresh=True)
        else:
            err.print(line, soft_wrap=True)
