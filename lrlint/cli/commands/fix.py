"""`lrlint fix`: edits that are proven to repair findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lrlint.cli.options import COLOUR, CONFIG, SELECTION, TARGET, Command, option
from lrlint.cli.output import complain, echo, report_failures, write
from lrlint.errors import UsageError


@click.command(cls=Command, short_help="Print (or apply) edits that are proven to repair findings.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@option("--apply", "apply", is_flag=True, section="Output", help="Write the edits instead of printing them.")
@option("--output", "-o", "sarif", metavar="FILE", section="Output", help="Write SARIF with the edits as fixes, too.")
@TARGET
@SELECTION
@CONFIG
@COLOUR
def fix(**options: Any) -> int:
    """Print edits of the source that repair findings, as a diff.

    Each edit was run: its finding is gone, nothing new is found, and no other parameter is treated differently. What
    is not proven is not offered. The exit code is 1 when there is a diff, 0 when there is none or it was applied.
    """
    from lrlint.fixes.repair import uncommitted
    from lrlint.runner import session

    run, repairs = session.repairs(session.with_progress(session.request(options["targets"], options)))
    report_failures(run)
    texts: dict[Path, tuple[str, str]] = {}
    for repair in repairs:
        for path, text in repair.texts.items():
            before, known = texts.get(repair.root / path, (repair.before[path], text))
            if known != text:  # two targets edit one file: the second runs again on what the first wrote
                continue
            if options["apply"] and (lines := uncommitted(repair.root, path, before, text)):
                listed = ", ".join(map(str, lines))
                raise UsageError(
                    f"{path}: line {listed} has uncommitted changes", "commit or stash them, then fix again"
                )
            texts[repair.root / path] = (before, text)
    for repair in repairs:
        for finding in repair.fixed:
            complain(f"{finding.target}: {finding.rule} {finding.name} gone; nothing new, no other parameter changed")
        for finding in repair.open:
            complain(f"{finding.target}: {finding.rule} {finding.name}: no edit is proven")
    if options["sarif"]:
        from lrlint.fixes.repair import replacements
        from lrlint.reports import sarif

        write(Path(options["sarif"]), sarif.render(run, {k: v for r in repairs for k, v in replacements(r).items()}))
    if run.failures:
        return run.exit_code
    if options["apply"]:
        for file, (_, text) in texts.items():
            write(file, text)
            echo(f"wrote {file.name}\n")
        return 0
    diffs = dict.fromkeys(repair.diff() for repair in repairs)
    echo("".join(diffs))
    return 1 if texts else 0
