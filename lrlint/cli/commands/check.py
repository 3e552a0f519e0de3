"""`lrlint check` and `lrlint probe`: findings of targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lrlint.cli.options import CONFIG, EXPERIMENT, OUTPUT, PROBE, SELECTION, TARGET, Command
from lrlint.cli.output import can_draw, echo, exit_code, guarded, report_failures, step_summary, style_for, write

if TYPE_CHECKING:
    from lrlint.facts import Setup


@click.command(cls=Command, short_help="Check targets; without one, every configured target.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@TARGET
@SELECTION
@CONFIG
@OUTPUT
@PROBE
def check(**options: Any) -> int:
    """Check targets; without one, every target of [tool.lrlint.targets].

    The exit code is 0 when nothing at or above --fail-on was found, 1 when something was, 2 for wrong usage, 3 when a
    target's own code failed, 4 when a required device is missing.
    """
    return _check(options)


@click.command(cls=Command, short_help="Run the stability probe alone.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@TARGET
@SELECTION
@CONFIG
@OUTPUT
@EXPERIMENT
def probe(**options: Any) -> int:
    """Run a few real steps of each target at its peak rates and at lower ones, undo them, and judge the rates.

    Batches come from the target; without any they are made up after its inputs, and the evidence is weak.
    """
    return _check({**options, "with_probe": True, "only_probe": True})


def _check(options: Mapping[str, Any]) -> int:
    from lrlint import reports
    from lrlint.runner import session

    destinations = [reports.destination(text) for text in options["outputs"]]  # a typing error must not cost a run
    asked = session.request(options["targets"], options)
    run = guarded(options["format_"], lambda: session.check(session.with_progress(asked)))
    if "rank" in run.extras:  # rank 0 reports for all
        return exit_code(run.extras["exit_code"], options)
    report_failures(run)
    for text in run.extras.get("ranks", ()):
        click.echo(f"lrlint: {text}", err=True)
    for name, path in destinations:
        write(path, reports.render(name, run))
    style = style_for(options["colour"])
    if options["format_"] == "full":
        for setup in run.setups:
            echo(_probe_picture(setup, style))
    echo(reports.render(options["format_"], run, style))
    if options["statistics"] and options["format_"] in ("full", "concise"):
        from lrlint.reports.summary import statistics

        echo(statistics(run))
    if options["format_"] == "github":
        step_summary(run)
    return exit_code(run.exit_code, options)


def _probe_picture(setup: Setup, style: Any) -> str:
    """The course of the probe's run; "" where there was none."""
    if setup.probe is None:
        return ""
    from lrlint.reports.views import probe as probe_view

    return probe_view.render(setup.probe, style, ascii=not can_draw()) + "\n"
