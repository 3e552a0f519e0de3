"""One line per finding: ``path:line:col: LR101 [name] message``, then the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.reports.style import clean
from lrlint.reports.summary import summary

if TYPE_CHECKING:
    from lrlint.lint.run import Run


def render(run: Run) -> str:
    if not run.checked:  # why is told on standard error
        return ""
    lines = []
    for finding in run.active:
        where = str(finding.locations[0]) if finding.locations else finding.target or "lrlint"
        lines.append(clean(f"{where}: {finding.rule} [{finding.name}] {finding.message}"))
    lines += [clean(f"{failure.target}: failed: {failure.message}") for failure in run.failures]
    return "\n".join([*lines, summary(run)]) + "\n"
