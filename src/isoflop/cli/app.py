"""The commands together, and what becomes of their errors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from isoflop.cli.catalogue import allocators, methods
from isoflop.cli.claims import claims_app
from isoflop.cli.demo import demo
from isoflop.cli.laws import compare, fit, laws, next_run, optimum, predict
from isoflop.cli.models import models, pull
from isoflop.cli.run import resume, run
from isoflop.cli.runs import export, plan, report, runs, show
from isoflop.cli.screen import err
from isoflop.cli.shrink import shrink
from isoflop.cli.tasks import check, tasks
from isoflop.cli.train import train_app
from isoflop.cost import BudgetExhausted
from isoflop.model.base import ModelError
from isoflop.record import StoreError

FAULTS = (ValueError, ModelError, StoreError, BudgetExhausted, OSError)
"""What a user can mend: told in one message, with exit code 2. Anything else is a bug and keeps its traceback."""


class Commands(TyperGroup):
    """Commands whose faults are told without a traceback."""

    def invoke(self, ctx: Any) -> Any:  # the class of a context is private to typer
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer's own: whoever read the output has seen enough
        except FAULTS as fault:
            if ctx.params["debug"]:
                raise
            err.print(f"isoflop: {fault}", soft_wrap=True)
            raise typer.Exit(2) from fault


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"isoflop {version('isoflop')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ISOFLOP_DEBUG", help="Show where an error came from.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """What can this much compute buy, and how should it be spent?"""


_ABOUT_RUNS = (run, resume, runs, show, plan, report, export)
_ABOUT_LAWS = (fit, predict, optimum, next_run, compare)
_LISTS = (demo, methods, allocators, models, pull, tasks, check, laws)
for command in (*_ABOUT_RUNS, shrink, *_ABOUT_LAWS, *_LISTS):
    app.command()(command)
app.add_typer(claims_app, name="claims")
app.add_typer(train_app, name="train")
main = app
