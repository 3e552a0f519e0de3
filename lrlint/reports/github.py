"""GitHub workflow commands: the worst findings as annotations, everything else counted in one notice.

GitHub shows ten annotations of a level per step; the whole list goes to the step summary.
Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.lint.finding import Finding
from lrlint.reports.locations import location_of
from lrlint.reports.style import clean
from lrlint.reports.summary import summary
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.lint.run import Run

MOST = 10
_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def render(run: Run) -> str:
    lines: list[str] = []
    left = 0
    for severity, command in _COMMANDS.items():
        findings = sorted((f for f in run.active if f.severity == severity), key=lambda f: -f.rank[1])
        # The closing notice is one of the ten notices.
        most = MOST - 1 if command == "notice" else MOST
        lines += [_annotation(command, item, run) for item in findings[:most]]
        left += len(findings[most:])
    lines += [f"::error title=lrlint::{_data(f'{failure.target}: {failure.message}')}" for failure in run.failures]
    if left:
        text = f"{count(left, 'finding')} more in the step summary: GitHub shows {MOST} annotations of a level"
        lines.append(f"::notice title=lrlint::{_data(text)}")
    return "\n".join([*lines, _plain(summary(run))]) + "\n"


def _annotation(command: str, finding: Finding, run: Run) -> str:
    span = location_of(finding, run)
    fields = {"file": span.path, "line": span.line}
    one_line = span.end_line in (None, span.line)
    if span.column is not None and one_line:  # GitHub drops an annotation with columns on several lines
        fields["endLine"] = span.line
        fields["col"] = span.column
        if span.end_column is not None:
            fields["endColumn"] = max(span.end_column - 1, span.column)
    elif span.end_line is not None:
        fields["endLine"] = span.end_line
    fields["title"] = f"{finding.rule} {finding.name}"
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in fields.items())
    help_ = f"\n{finding.help}" if finding.help else ""
    return f"::{command} {properties}::{_data(finding.message + help_)}"


def _data(text: str) -> str:
    lines = [clean(line) for line in text.splitlines()]  # the log is read in terminals too
    return "%0A".join(line.replace("%", "%25") for line in lines)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _plain(text: str) -> str:
    """The summary line is no command, whatever is in it."""
    return clean(text).replace("::", ": :")
