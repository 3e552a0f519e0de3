"""What the command line writes, and where: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrlint.errors import UsageError
from lrlint.text.cleaning import clean_lines

if TYPE_CHECKING:
    from lrlint.lint.run import Run
    from lrlint.reports.style import Style


def complain(message: str, hint: str = "", trace: str = "") -> None:
    """An error goes to standard error: standard output carries results only."""
    if trace:
        click.echo(clean_lines(trace.rstrip()), err=True)
    click.echo(f"lrlint: {clean_lines(message)}", err=True)
    if hint:
        click.echo(f"  hint: {clean_lines(hint)}", err=True)


def style_for(colour: bool | None) -> Style:
    """Width of the terminal, and colour when asked for: the flag, then NO_COLOR and FORCE_COLOR, then the terminal."""
    import shutil

    from lrlint.reports.style import Style

    if colour is None:
        environment = os.environ
        if environment.get("NO_COLOR"):
            colour = False
        else:
            colour = bool(environment.get("FORCE_COLOR")) or (sys.stdout.isatty() and environment.get("TERM") != "dumb")
    width = shutil.get_terminal_size((100, 24)).columns
    links = colour and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "linux")
    return Style(max(60, min(width, 120)), colour, links)


def can_draw() -> bool:
    """Whether standard output can carry braille dots and arrows."""
    try:
        "⣿→×│".encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def echo(text: str) -> None:
    """Write a result, in an encoding that may lack some of its characters. Raises UsageError where it cannot be."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer must not be tried again.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        raise UsageError(f"standard output cannot be written: {error.strerror}") from None


def write(path: Path, text: str) -> None:
    from lrlint.config.files import write

    write(path, text)


def guarded(format_: str, work: Callable[[], Run]) -> Run:
    """On GitHub, workflow commands that the target's code prints must not take effect."""
    if format_ != "github":
        return work()
    import secrets

    token = secrets.token_hex(16)
    click.echo(f"::stop-commands::{token}", err=True)
    try:
        return work()
    finally:
        click.echo(f"::{token}::", err=True)


def report_failures(run: Run) -> None:
    """Targets that failed are no results: they are told on standard error, with the target's own traceback."""
    for failure in run.failures:
        file = failure.target.rpartition(":")[0] or failure.target
        prefix = "" if file in failure.message else f"{failure.target}: "
        complain(prefix + failure.message, failure.hint, failure.trace)


def step_summary(run: Run) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        from lrlint.reports import render

        try:
            with open(path, "a", encoding="utf-8") as stream:
                stream.write(render("markdown", run))
        except OSError as error:  # an extra of the runner's: the annotations are out, and the exit code stands
            complain(f"the step summary {path} cannot be written: {error.strerror}")
