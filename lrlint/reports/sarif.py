"""SARIF 2.1.0 as GitHub code scanning reads it.

Sources: the OASIS standard (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html) and GitHub's limits
(https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning).
Findings that were set aside are left out, because GitHub shows them all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lrlint._version import __version__
from lrlint.config.files import dump
from lrlint.facts import Span
from lrlint.lint.engine_rules import Builtin
from lrlint.lint.finding import Finding
from lrlint.lint.rule import Rule
from lrlint.reports.links import rule_page
from lrlint.reports.locations import in_repository, location_of, unique
from lrlint.text import names

if TYPE_CHECKING:
    from lrlint.fixes.repair import Replacement
    from lrlint.lint.run import Run

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: GitHub rejects a run with more results.
MOST_RESULTS = 25_000
#: Related places of one result; more than a reader follows.
_RELATED = 10

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_PROBLEM = {"error": "error", "warning": "warning", "info": "recommendation"}


def render(run: Run, fixes: Mapping[str, Sequence[Replacement]] | None = None) -> str:
    """The SARIF log: one run, its results worst first. ``fixes``: proven edits by a finding's fingerprint."""
    known = {rule.code: rule for rule in run.rules}
    policies = {finding.rule: _policy(finding) for finding in run.active if finding.rule not in known}
    rules: Mapping[str, Rule | Builtin] = {**known, **policies}
    order = {code: index for index, code in enumerate(rules)}
    worst = sorted(unique(run.active), key=lambda pair: [-part for part in pair[0].rank])
    proven = fixes or {}
    results = [_result(f, mark, order, run, proven.get(f.fingerprint, ())) for f, mark in worst[:MOST_RESULTS]]
    driver = {
        "name": "lrlint",
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in rules.values()],
    }
    return dump(
        {
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": driver},
                    "invocations": [_invocation(run)],
                    "columnKind": "unicodeCodePoints",
                    "results": results,
                }
            ],
        }
    )


def _policy(finding: Finding) -> Builtin:
    severity, confidence = finding.severity or "error", finding.confidence or "high"
    return Builtin(finding.rule, finding.name, severity, "A policy of this project.", confidence, "policy")


def _rule(rule: Rule | Builtin) -> dict[str, Any]:
    text = rule.documentation or rule.summary
    link = rule_page(rule.code, text)
    return {
        "id": rule.code,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.summary or rule.name},
        "fullDescription": {"text": _first_paragraphs(text) or rule.name},
        "help": {"text": text or rule.name, "markdown": f"**{rule.code} {rule.name}**\n\n{text}"},
        **({"helpUri": link} if link else {}),
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "precision": rule.confidence,
            "problem.severity": _PROBLEM[rule.severity],
            "tags": [rule.family],
        },
    }


def _first_paragraphs(text: str) -> str:
    """Summary and first paragraph: GitHub cuts a full description at 1024 characters."""
    return " ".join(" ".join(text.split("\n\n")[:2]).split())[:1000]


def _result(
    finding: Finding, mark: str, order: Mapping[str, int], run: Run, fix: Sequence[Replacement]
) -> dict[str, Any]:
    help_ = f"\n{finding.help}" if finding.help else ""
    related = _related(finding, run)
    return {
        "ruleId": finding.rule,
        "ruleIndex": order[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": _text(f"{finding.message}{help_}")},
        "locations": [{"physicalLocation": _physical(location_of(finding, run)), **_logical(finding)}],
        **({"relatedLocations": related} if related else {}),
        **({"fixes": [_fix(fix, finding, run)]} if fix else {}),
        "partialFingerprints": {"primaryLocationLineHash": f"{mark}:1"},
        "properties": {
            "target": finding.target,
            "confidence": finding.confidence,
            "parameters": names.compress(finding.parameters),
        },
    }


def _fix(fix: Sequence[Replacement], finding: Finding, run: Run) -> dict[str, Any]:
    """Whole lines: what a host shows as a suggestion."""
    changes: dict[str, list[Replacement]] = {}
    for part in fix:
        changes.setdefault(part.path, []).append(part)
    return {
        "description": {"text": f"repairs {finding.rule}; run and checked again"},
        "artifactChanges": [
            {
                "artifactLocation": {"uri": _uri(in_repository(Span(path, 1), finding, run).path)},
                "replacements": [
                    {
                        "deletedRegion": {
                            "startLine": part.first, "startColumn": 1, "endLine": part.last, "endColumn": 1,
                        },
                        "insertedContent": {"text": _text(part.text)},
                    }
                    for part in parts
                ],
            }
            for path, parts in changes.items()
        ],
    }  # fmt: skip


def _related(finding: Finding, run: Run) -> list[dict[str, Any]]:
    spans = [(span, "also here") for span in finding.locations[1:]]
    spans += [(span, related.label) for related in finding.related for span in related.locations]
    return [
        {
            "id": number,
            "physicalLocation": _physical(in_repository(span, finding, run)),
            "message": {"text": label or "related"},
        }
        for number, (span, label) in enumerate(spans[:_RELATED], 1)
    ]


def _physical(span: Span) -> dict[str, Any]:
    return {"artifactLocation": {"uri": _uri(span.path)}, "region": _region(span)}


def _uri(path: str) -> str:
    return ("file://" if path.startswith("/") else "") + quote(path, safe="/@+,=", errors="surrogateescape")


def _region(span: Span) -> dict[str, int]:
    """The first line only: a pull request shows an alert when every line of its region is in the diff."""
    region = {"startLine": span.line, "endLine": span.line}
    if span.column is not None:
        region["startColumn"] = span.column
        if span.end_column is not None and span.end_line in (None, span.line):
            region["endColumn"] = span.end_column
    return region


def _logical(finding: Finding) -> dict[str, Any]:
    patterns = names.compress(finding.parameters or finding.modules)[:_RELATED]
    return (
        {"logicalLocations": [{"fullyQualifiedName": _text(name), "kind": "member"} for name in patterns]}
        if patterns
        else {}
    )


def _invocation(run: Run) -> dict[str, Any]:
    failures = [
        {"level": "error", "message": {"text": _text(f"{failure.target}: {failure.message}")}}
        for failure in run.failures
    ]
    return {
        "executionSuccessful": not failures,
        "exitCode": run.exit_code,
        **({"toolExecutionNotifications": failures} if failures else {}),
    }


def _text(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
