"""The run as Markdown, for a pull request comment or a step summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lrlint.lint.finding import Finding
from lrlint.reports.style import clean
from lrlint.reports.summary import summary
from lrlint.text import names

if TYPE_CHECKING:
    from lrlint.lint.run import Run

_MARKS = {"error": "🔴", "warning": "🟡", "info": "🔵"}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")
_CODE = re.compile(r"`[^`]+`")


def render(run: Run) -> str:
    lines = ["## lrlint", "", text(summary(run)), ""]
    for target in dict.fromkeys((*run.targets, *(finding.target for finding in run.active))):
        findings = [finding for finding in run.active if finding.target == target]
        failures = [failure for failure in run.failures if failure.target == target]
        if not findings and not failures:
            continue
        lines += [f"### {code(target or 'configuration')}", ""]
        lines += [f"**failed**: {text(failure.message)}\n" for failure in failures]
        if findings:
            lines += ["| | rule | where | finding |", "|---|---|---|---|", *(_row(finding) for finding in findings), ""]
    aside = [finding for finding in run.findings if finding.suppressed]
    if aside:
        lines += ["<details><summary>Set aside</summary>", "", "| rule | by | reason | finding |", "|---|---|---|---|"]
        lines += [_aside_row(finding) for finding in aside]
        lines += ["", "</details>", ""]
    if run.skipped:
        lines += ["<details><summary>Not checked</summary>", ""]
        lines += [f"- {skipped.rule} {skipped.name}: {text(skipped.reason)}" for skipped in run.skipped]
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    where = code(str(finding.locations[0])) if finding.locations else ""
    patterns = names.compress(finding.parameters)
    rest = f" and {len(patterns) - 4} more" if len(patterns) > 4 else ""
    parameters = f"<br>{', '.join(code(p) for p in patterns[:4])}{rest}" if patterns else ""
    help_ = f"<br>*{text(finding.help)}*" if finding.help else ""
    mark = f"{_MARKS[finding.severity]} {finding.severity}"
    return f"| {mark} | {finding.rule} {text(finding.name)} | {where} | {text(finding.message)}{parameters}{help_} |"


def _aside_row(finding: Finding) -> str:
    by = finding.suppressed or {}
    where = f" {code(str(by['where']))}" if by.get("where") else ""
    cells = (f"{finding.rule} {finding.name}", str(by.get("reason", "")), finding.message)
    rule, reason, message = map(text, cells)
    return f"| {rule} | {by.get('by', '')}{where} | {reason} | {message} |"


def text(value: str) -> str:
    """Plain text: nothing in it is markup, except code spans that a message has on purpose."""
    value = clean(" ".join(value.split()))
    parts, last = [], 0
    for match in _CODE.finditer(value):
        parts += [_SPECIAL.sub(r"\\\1", value[last : match.start()]), _piped(match[0])]
        last = match.end()
    return "".join([*parts, _SPECIAL.sub(r"\\\1", value[last:])])


def code(value: str) -> str:
    """A code span, in as many backticks as its content needs; a table cell must not see its pipes."""
    value = _piped(clean(value))
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{value}{pad}{fence}"


def _piped(value: str) -> str:
    """Pipes escaped for a table; a backslash in front of one would take the escape for itself."""
    return re.sub(r"(\\*)\|", lambda m: f"{m[1]} \\|" if m[1] else "\\|", value)
