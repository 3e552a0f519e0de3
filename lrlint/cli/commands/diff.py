"""`lrlint diff`: what changed between two setups."""

from __future__ import annotations

from typing import Any

import click

from lrlint.cli.options import COLOUR, CONFIG, TARGET, Command, option
from lrlint.cli.output import echo, style_for


@click.command(cls=Command, short_help="Say what changed between two setups or snapshots.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@TARGET
@CONFIG
@option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    section="Output",
    help="What standard output carries.",
)
@COLOUR
def diff(before: str, after: str, **options: Any) -> int:
    """Say what changed from A to B, per parameter pattern. Each is a target or a saved snapshot.

    The exit code is 1 when they differ. Order, group numbers and depth make no difference by themselves.
    """
    from lrlint.lint import setup_diff
    from lrlint.reports.views import diff as views
    from lrlint.runner import session

    setups = [session.one(session.with_progress(session.request([name], options))).setup for name in (before, after)]
    comparison = setup_diff.compare(*setups)
    echo(views.render(options["format_"], comparison, before, after, style_for(options["colour"])))
    return 0 if comparison.same else 1
