"""GitLab Code Quality report.

Source: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.config.files import dump
from lrlint.reports.locations import location_of, unique

if TYPE_CHECKING:
    from lrlint.lint.run import Run

_SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}


def render(run: Run) -> str:
    """A list of issues. GitLab shows the description only, so it repeats the rule."""
    issues = []
    for finding, mark in unique(run.active):
        span = location_of(finding, run)
        issues.append(
            {
                "type": "issue",
                "check_name": f"{finding.rule} {finding.name}",
                "description": f"{finding.rule} {finding.name}: {finding.message}",
                "categories": ["Bug Risk"],
                "fingerprint": mark,
                "severity": _SEVERITIES[finding.severity],
                "location": {"path": span.path, "lines": {"begin": span.line, "end": span.end_line or span.line}},
            }
        )
    return dump(issues)
