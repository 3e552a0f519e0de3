"""`lrlint report`: the audit report of targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lrlint.cli.options import CONFIG, PROBE, SELECTION, TARGET, Command, option
from lrlint.cli.output import echo, exit_code, report_failures, write


@click.command(cls=Command, short_help="Write the audit report of targets, as HTML or Markdown.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@option(
    "--output",
    "-o",
    "outputs",
    metavar="FILE",
    multiple=True,
    required=True,
    section="Output",
    help="audit.html or audit.md. Repeatable.",
)
@option(
    "--against",
    metavar="SNAPSHOT",
    section="Output",
    help="Say what changed since this snapshot (`lrlint show TARGET -o setup.json`).",
)
@TARGET
@SELECTION
@CONFIG
@PROBE
def report(**options: Any) -> int:
    """Write the audit report of targets: verdict, setup, findings, what was set aside and what was not checked.

    The exit code is that of `lrlint check`. SOURCE_DATE_EPOCH fixes the date in the report.
    """
    from lrlint import reports
    from lrlint.reports import audit_markdown, html
    from lrlint.reports.summary import summary
    from lrlint.reports.views import audit, identity, verdict
    from lrlint.runner import session

    destinations = [reports.destination(text) for text in options["outputs"]]
    asked = session.request(options["targets"], options)
    before = session.snapshot(Path(options["against"])) if options["against"] else None
    run = session.check(session.with_progress(asked))
    if "rank" in run.extras:
        return exit_code(run.extras["exit_code"], options)
    context = audit.Context(
        identity.current(asked.settings, _arguments()), audit.matched(before, run), options["against"] or ""
    )
    report_failures(run)
    for part in run.checked:
        findings = [f for f in run.findings if f.target == part.target]
        echo(f"{part.target}: {verdict.verdict(findings, part.setup).text}\n")
    writers = {"html": html.render, "markdown": audit_markdown.render}
    for name, path in destinations:
        text = writers[name](run, context) if name in writers else reports.render(name, run)
        write(path, text)
        echo(f"wrote {path} ({len(text.encode()):,} bytes)\n")
    echo(summary(run) + "\n")
    return exit_code(run.exit_code, options)


def _arguments() -> list[str]:
    """The command line as it was typed, for the report's reader."""
    return list(click.get_current_context().obj or ())
