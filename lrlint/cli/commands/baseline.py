"""`lrlint baseline`: accept today's findings."""

from __future__ import annotations

from typing import Any

import click

from lrlint.cli.options import CONFIG, TARGET, Command, option
from lrlint.cli.output import echo, report_failures


@click.command(cls=Command, short_help="Accept today's findings; --prune only removes what is fixed.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@option("--prune", is_flag=True, section="Baseline", help="Only remove entries whose finding is gone.")
@option(
    "--baseline",
    metavar="FILE",
    section="Baseline",
    help="File to write (default: the configured one, or lrlint-baseline.json).",
)
@TARGET
@CONFIG
def baseline(prune: bool, **options: Any) -> int:
    """Accept today's findings: `lrlint check` reports only new ones from then on. Entries of other targets stay."""
    from lrlint.cli import baseline as acceptance
    from lrlint.runner import session

    run, message = acceptance.update(session.with_progress(session.request(options["targets"], options)), prune)
    report_failures(run)
    if message:
        echo(message + "\n")
    return run.exit_code if run.failures else 0
