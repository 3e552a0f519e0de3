"""JUnit XML: a suite per target, a case per rule. Its failures are what makes the exit code 1.

Element order and required attributes are those of the JUnit schema that CI servers follow; time stamps are constant, so
that the same run gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from lrlint.lint.engine_rules import CRASHED, Builtin
from lrlint.lint.finding import Finding, at_least
from lrlint.lint.rule import Rule
from lrlint.text.cleaning import clean, clean_lines

if TYPE_CHECKING:
    from lrlint.lint.run import Checked, Run

_EPOCH = "1970-01-01T00:00:00"
#: Characters that XML 1.0 cannot hold, not even escaped: noncharacters, once the rest is clean.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(run: Run) -> str:
    """Findings that no rule of a target owns (suppressions at fault in the configuration) are a suite of their own."""
    suites = [_checked(part, [f for f in run.active if f.target == part.target], run.fail_on) for part in run.checked]
    owned = {part.target for part in run.checked}
    general = [finding for finding in run.active if finding.target not in owned]
    if general:
        suites.append(("lrlint", _cases("lrlint", general, run.fail_on), {}))
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for number, (name, cases, _) in enumerate(suites):
        lines += _suite(number, name, cases)
    for number, failure in enumerate(run.failures, len(suites)):
        text = "\n".join(part for part in (failure.message, failure.hint, failure.trace) if part)
        body = _element("error", failure.message, "target", text)
        lines += _suite(number, failure.target, [_case(failure.target, "inspect", "error", body)])
    return "\n".join([*lines, "</testsuites>"]) + "\n"


Case = tuple[str, str]  # (what it is: "", failure, error or skipped; its XML)


def _checked(part: Checked, findings: Sequence[Finding], fail_on: str) -> tuple[str, list[Case], dict[str, str]]:
    skipped = {s.rule: s.reason for s in part.skipped}
    crashed = {str(f.data.get("rule")): f for f in findings if f.rule == CRASHED.code}
    cases = []
    for rule in part.rules:
        own = [finding for finding in findings if finding.rule == rule.code]
        if rule.code in skipped:
            cases.append(
                _case(part.target, _title(rule), "skipped", f"<skipped message={_attribute(skipped[rule.code])}/>")
            )
        elif rule.code in crashed:
            message = crashed[rule.code].message
            cases.append(_case(part.target, _title(rule), "error", _element("error", message, CRASHED.name, message)))
        else:
            cases.append(_judged(part.target, _title(rule), own, fail_on))
    known = {rule.code for rule in part.rules} | {CRASHED.code}
    rest = [finding for finding in findings if finding.rule not in known]
    return part.target, [*cases, *_cases(part.target, rest, fail_on)], skipped


def _cases(target: str, findings: Sequence[Finding], fail_on: str) -> list[Case]:
    """Cases of findings without a rule file: the engine's own, and policies."""
    titles = dict.fromkeys(f"{finding.rule} {finding.name}" for finding in findings)
    return [_judged(target, t, [f for f in findings if f"{f.rule} {f.name}" == t], fail_on) for t in titles]


def _judged(target: str, title: str, findings: Sequence[Finding], fail_on: str) -> Case:
    failing = at_least(findings, fail_on)
    if not failing:
        return _case(target, title, "", "")
    text = "\n\n".join(_told(finding) for finding in failing)
    message = failing[0].message if len(failing) == 1 else f"{len(failing)} findings"
    return _case(target, title, "failure", _element("failure", message, failing[0].severity, text))


def _told(found: Finding) -> str:
    where = f"{found.locations[0]}: " if found.locations else ""
    return f"{where}{found.severity}: {found.message}" + (f"\n{found.help}" if found.help else "")


def _title(rule: Rule | Builtin) -> str:
    return f"{rule.code} {rule.name}"


def _suite(number: int, name: str, cases: Sequence[Case]) -> list[str]:
    counts = {kind: sum(outcome == kind for outcome, _ in cases) for kind in ("failure", "error", "skipped")}
    head = (
        f"<testsuite id={_attribute(str(number))} package={_attribute('lrlint')} name={_attribute(name)}"
        f' timestamp="{_EPOCH}" hostname="localhost" tests="{len(cases)}" failures="{counts["failure"]}"'
        f' errors="{counts["error"]}" skipped="{counts["skipped"]}" time="0">'
    )
    ends = ["    <system-out></system-out>", "    <system-err></system-err>", "  </testsuite>"]
    return [f"  {head}", "    <properties></properties>", *(text for _, text in cases), *ends]


def _case(target: str, title: str, kind: str, body: str) -> Case:
    head = f'    <testcase classname={_attribute(target)} name={_attribute(title)} time="0"'
    return kind, f"{head}>{body}</testcase>" if body else f"{head}/>"


def _element(tag: str, message: str, type_: str, text: str) -> str:
    return f"<{tag} message={_attribute(message)} type={_attribute(type_)}>{escape(_legal(text))}</{tag}>"


def _attribute(text: str) -> str:
    """A quoted attribute; one that must not be empty gets a dash."""
    return quoteattr(_FORBIDDEN.sub("?", clean(" ".join(text.split())) or "-"))


def _legal(text: str) -> str:
    return _FORBIDDEN.sub("?", clean_lines(text))
