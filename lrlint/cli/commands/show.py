"""`lrlint show`: what lrlint sees of a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrlint.cli.options import COLOUR, CONFIG, TARGET, Command, option
from lrlint.cli.output import echo, style_for, write
from lrlint.errors import UsageError

if TYPE_CHECKING:
    from lrlint.runner.session import Found


@click.command(cls=Command, short_help="Show what lrlint sees: groups and parameters as a table.")
@click.argument("targets", nargs=-1, metavar="[TARGET]")
@option(
    "--settings",
    "show_settings",
    is_flag=True,
    section="View",
    help="The configuration in force, and where each value comes from.",
)
@option("--graph", "show_graph", is_flag=True, section="View", help="What the forward pass does with each parameter.")
@option(
    "--loop", "show_loop", is_flag=True, section="View", help="The training loop of a script, as a rehearsal saw it."
)
@option("--schedule", "show_schedule", is_flag=True, section="View", help="The learning rates over the run.")
@TARGET
@CONFIG
@option(
    "--output",
    "-o",
    "outputs",
    metavar="FILE",
    multiple=True,
    section="Output",
    help="Save the setup as a snapshot (JSON). Repeatable.",
)
@COLOUR
def show(**options: Any) -> int:
    """Show what lrlint sees of a target: parameter groups with rates, decay and the parameters in them.

    `--output setup.json` saves the facts: `check`, `show` and `diff` read them again, also where there is no torch.
    """
    from lrlint.runner import session

    if options["show_settings"]:
        from lrlint.reports.views import settings as settings_view

        echo(settings_view.render(session.settings_from(options)))
        return 0
    inspected = session.one(session.with_progress(session.request(options["targets"], options)))
    for path in options["outputs"]:
        from lrlint.config.files import dump
        from lrlint.reports.views.setup import size

        write(Path(path), dump(inspected.setup.to_dict()))
        echo(f"wrote {path}: {inspected.target.name}, {size(inspected.setup)}\n")
    if not options["outputs"] or any(options[f"show_{view}"] for view in ("graph", "schedule", "loop")):
        echo(_view(inspected, options))
    return 0


def _view(inspected: Found, options: Mapping[str, Any]) -> str:
    style, setup = style_for(options["colour"]), inspected.setup
    if options["show_loop"]:
        if setup.loop is None:
            raise UsageError(f"no loop was seen: {setup.note('loop') or 'only scripts are rehearsed (--script FILE)'}")
        from lrlint.reports.views import loop as loop_view
        from lrlint.text.sources import Sources

        return loop_view.render(setup.loop, style, Sources(inspected.root))
    if options["show_graph"]:
        if setup.graph is None:
            reason = setup.note("graph") or "this snapshot was saved without it"
            raise UsageError(f"the forward pass was not observed: {reason}")
        from lrlint.reports.views.graph import render as graph

        return graph(setup, style)
    from lrlint.reports.views import setup as setup_view

    if options["show_schedule"]:
        return setup_view.schedules(setup, style)
    return setup_view.render(setup, style)
