"""The commands about claims: `claims`, `claims run`."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, cast

import typer

from isoflop.claim import SIZES, Claim, CouldNotRunError, claims, keep, kept_evidence
from isoflop.cli.screen import err, out, put_json
from isoflop.cli.show import JsonOption

claims_app = typer.Typer(rich_markup_mode=None)


@claims_app.callback(invoke_without_command=True)
def list_claims(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the papers' claims, or test one."""
    if ctx.invoked_subcommand:
        return
    found = claims()
    if json:
        put_json([{"claim": slug, **_facts(claim), "status": _status(slug)} for slug, claim in found.items()])
        return
    for slug, claim in found.items():
        statuses = ", ".join(f"{size}: {status}" for size, status in _status(slug).items())
        out.print(f"{slug} ({statuses})", style="bold", soft_wrap=True)
        for what, fact in _facts(claim).items():
            out.print(f"  {what:10}{fact}", soft_wrap=True)


@claims_app.command("run")
def run_claim(
    slug: Annotated[str, typer.Argument(help="A claim that `isoflop claims` lists.")],
    size: Annotated[str, typer.Option(help="quick (seconds) or full (minutes).")] = "quick",
    keep_in: Annotated[
        Path | None, typer.Option("--keep", metavar="FOLDER", help="Write the evidence into this folder as well.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Test a claim and print the evidence; exit code 0: it holds, 1: it does not, 2: it could not be tested."""
    found = claims()
    if slug not in found:
        raise ValueError(f"unknown claim {slug!r}; known are {', '.join(found) or 'none'}")
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; use {' or '.join(SIZES)}")
    try:
        evidence = found[slug].run(size)
    except CouldNotRunError as error:
        err.print(f"isoflop: {slug} could not be tested: {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    if keep_in:
        err.print(f"evidence kept in {keep(evidence, keep_in)}", soft_wrap=True)
    if json:
        put_json(json_.loads(evidence.to_json()))
    else:
        out.print(f"{slug} {_verdict(evidence.holds)} ({size}, {evidence.seconds:g} s)", style="bold", soft_wrap=True)
        for finding in evidence.findings:
            out.print(f"  {_verdict(finding.holds):16}{finding.what}", soft_wrap=True)
            for name, value in finding.measured.items():
                out.print(f"    {name}: {_shown(value)}", soft_wrap=True)
    raise typer.Exit(0 if evidence.holds else 1)


def _facts(claim: Claim) -> dict[str, str]:
    return {"paper": claim.paper, "says": claim.says, "tested by": claim.tested_by}


def _status(slug: str) -> dict[str, str]:
    kept = {size: kept_evidence(slug, size) for size in SIZES}
    return {size: _verdict(evidence.holds) if evidence else "not run" for size, evidence in kept.items()}


def _verdict(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_shown, cast("list[object]", value))) if isinstance(value, list) else str(value)
