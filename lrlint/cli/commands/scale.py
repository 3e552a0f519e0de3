"""`lrlint scale`: one target at several widths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from lrlint.cli.options import COLOUR, CONFIG, TARGET, Command, option
from lrlint.cli.output import can_draw, echo, exit_code, report_failures, style_for, write
from lrlint.errors import UsageError


@click.command(cls=Command, short_help="Compare a target at several widths: do its rates carry over?")
@click.argument("targets", nargs=-1, metavar="[TARGET]")
@option(
    "--vary",
    metavar="NAME=N,N,...",
    required=True,
    section="Widths",
    help="Argument of the factory that makes the model wider, and its values: width=64,128,256.",
)
@option("--steps", metavar="N", type=click.IntRange(min=2), section="Widths", help="Steps at each width (default: 4).")
@option("--seed", metavar="N", type=int, default=0, section="Widths", help="Decides all random numbers (default: 0).")
@option(
    "--transfers",
    is_flag=True,
    section="Widths",
    help="Rates found at one width are meant for the others: what breaks that is a finding.",
)
@TARGET
@CONFIG
@option(
    "--fail-on",
    type=click.Choice(["info", "warning", "error"]),
    section="Output",
    help="Least severity that makes the exit code 1 (default: warning).",
)
@option("--exit-zero", is_flag=True, section="Output", help="Exit with 0 where there are findings.")
@option(
    "--format",
    "format_",
    type=click.Choice(["full", "json"]),
    default="full",
    section="Output",
    help="What standard output carries.",
)
@option(
    "--output", "-o", "outputs", metavar="FILE", multiple=True, section="Output", help="Write the JSON. Repeatable."
)
@COLOUR
def scale(vary: str, **options: Any) -> int:
    """Build a target at several widths, take a few steps at each, and say which layer keeps rates from carrying over.

    Findings come only where the setup declares that it transfers: by --transfers, by `transfers=True` in what the factory
    returns, by mup's shapes, or by rates that depend on the width, each group's in its own way.
    """
    from pathlib import Path

    from lrlint import reports
    from lrlint.config.files import dump
    from lrlint.reports.views.scale import render
    from lrlint.runner import session

    name, equals, values = vary.partition("=")
    if not equals or not name.strip().isidentifier():
        raise UsageError(f"--vary {vary!r} is not of the form NAME=N,N,...", "--vary width=64,128,256")
    asked = session.with_progress(session.request(options["targets"], options))
    if len(asked.targets) != 1:
        raise UsageError(f"this command takes one target; there are {', '.join(t.name for t in asked.targets)}")
    if asked.targets[0].script or asked.targets[0].is_snapshot:
        raise UsageError("widths are compared of a factory, which is called with each", "package.module:factory")
    widths = [part.strip() for part in values.split(",") if part.strip()]
    wanted = {"vary": name.strip(), "widths": widths, "steps": options["steps"], "seed": options["seed"]}
    run = session.check(replace(asked, scale={**wanted, "transfers": options["transfers"]}))
    report_failures(run)
    if run.failures:
        return run.exit_code
    setup = run.setups[0]
    assert setup.scale is not None  # there was no failure
    data = {
        **setup.to_dict()["scale"],
        "target": setup.target,
        "findings": [finding.to_dict() for finding in run.findings],
    }
    for path in options["outputs"]:
        write(Path(path), dump(data))
    style = style_for(options["colour"])
    if options["format_"] == "json":
        echo(dump(data))
    else:
        echo(render(setup.scale, style, ascii=not can_draw()) + "\n")
        if setup.scale.transfers:
            echo(reports.render("full", run, style))
    return exit_code(run.exit_code, options)
