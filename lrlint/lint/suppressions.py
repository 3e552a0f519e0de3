"""Set findings aside: by a comment in the source, or by subject in the configuration. Report what sets nothing aside.

``# lrlint: ignore[LR301] reason`` (or ``fixme[...]``, counted as debt) stands on any line of the statement a finding
points at, or alone above it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lrlint.config.settings import Suppression
from lrlint.facts import Setup, Span
from lrlint.lint.engine_rules import EXPIRED, UNUSED, Builtin, matching
from lrlint.lint.finding import Finding
from lrlint.text import names
from lrlint.text.sources import SourceFile, Sources

_COMMENT = re.compile(r"#\s*lrlint:\s*(ignore|fixme)\b\s*(?:\[([^\]]*)\])?\s*(.*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Comment:
    """One suppression comment: ``lines`` are those of the statement it is about."""

    span: Span
    kind: str
    rules: tuple[str, ...]
    reason: str
    lines: tuple[int, int]

    def covers(self, finding: Finding) -> bool:
        return _names(self.rules, finding) and any(
            span.path == self.span.path and self.lines[0] <= span.line <= self.lines[1] for span in finding.locations
        )


@dataclass(frozen=True)
class CheckedRun:
    """What is known of the run.

    ``ran``: codes of the rules that ran on every target; ``rules``: code → (name, family) of all there are;
    ``group_names``: (target, optimizer, group) → name; ``complete``: whether every configured target was checked.
    """

    ran: Collection[str]
    rules: Mapping[str, tuple[str, str]]
    group_names: Mapping[tuple[str, int, int], str]
    complete: bool = True


def apply(
    findings: Sequence[Finding],
    setups: Sequence[Setup],
    sources: Mapping[str, Sources],
    entries: Sequence[Suppression],
    checked: CheckedRun,
    today: datetime.date | None = None,
) -> list[Finding]:
    """All findings, those set aside marked with who and why, and one more for each suppression at fault.

    ``sources`` gives each target's files.
    """
    day = today or datetime.date.today()
    comments: dict[Comment, str] = {}
    for setup in setups:
        for comment in examined(setup, sources[setup.target]):
            comments.setdefault(comment, setup.target)
    alive = [entry for entry in entries if entry.until is None or entry.until >= day]
    used: set[Comment | int] = set()
    result = [_judge(finding, comments, alive, used, checked) for finding in findings]
    problems = [
        _unused_comment(comment, target, problem)
        for comment, target in comments.items()
        if (problem := _comment_problem(comment, comment in used, checked))
    ]
    problems += [_problem(EXPIRED, entry, _expired(entry)) for entry in entries if entry not in alive]
    for entry in alive:
        if id(entry) not in used and (problem := _entry_problem(entry, checked)):
            problems.append(_problem(UNUSED, entry, problem))
    # What is said about a suppression can itself be suppressed, by subject only.
    return result + [_judge(problem, (), alive, used, checked) for problem in problems]


def examined(setup: Setup, sources: Sources) -> Iterator[Comment]:
    """Suppression comments at statements this setup comes from, and everywhere in its factory."""
    spans = [span for span in _spans(setup) if span is not None]
    for path in dict.fromkeys(span.path for span in spans):
        source = sources.get(path)
        if source is None or "lrlint:" not in source.text:
            continue
        lines = {span.line for span in spans if span.path == path}
        factory = _body(source, setup.span) if setup.span is not None and setup.span.path == path else range(0)
        for comment in _comments(source):
            own = range(comment.lines[0], comment.lines[1] + 1)
            if comment.span.line in factory or any(line in own for line in lines):
                yield comment


def _comments(source: SourceFile) -> Iterator[Comment]:
    standing_alone = {line for line, _, alone, _ in source.comments() if alone}
    for line, column, alone, text in source.comments():
        match = _COMMENT.search(text)
        if match is None:
            continue
        below = line
        while alone and below in standing_alone:  # a block of comments belongs to the statement below it
            below += 1
        inside = source.statement(line)
        lines = inside if not alone or inside[0] < line <= inside[1] else source.statement(below)
        rules = tuple(part.strip() for part in (match[2] or "").split(",") if part.strip())
        yield Comment(
            Span(source.path, line, column, line, column + len(text)), match[1].lower(), rules, match[3].strip(), lines
        )


def _body(source: SourceFile, span: Span) -> range:
    """All lines of the function or class that is defined at the span."""
    import ast

    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError):
        return range(0)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.lineno == span.line:
            return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return range(0)


def _spans(setup: Setup) -> Iterator[Span | None]:
    yield setup.span
    for optimizer in setup.optimizers:
        yield optimizer.span
        for group in optimizer.groups:
            yield group.span
            yield from group.key_spans.values()
    for facts in (setup.schedules, setup.modules, setup.unregistered, setup.rejections):
        yield from (fact.span for fact in facts)


def _judge(
    finding: Finding,
    comments: Iterable[Comment],
    entries: Iterable[Suppression],
    used: set[Comment | int],
    checked: CheckedRun,
) -> Finding:
    """Every suppression that fits counts as used; the first one is named."""
    by: list[dict[str, str]] = []
    for comment in comments:
        if comment.covers(finding):
            used.add(comment)
            by.append({"by": "comment", "kind": comment.kind, "where": str(comment.span), "reason": comment.reason})
    for entry in entries:
        if _fits(entry, finding, checked):
            used.add(id(entry))
            by.append({"by": "configuration", "kind": "ignore", "where": str(entry.span or ""), "reason": entry.reason})
    return replace(finding, suppressed=by[0]) if by else finding


def _fits(entry: Suppression, finding: Finding, checked: CheckedRun) -> bool:
    """Every condition of the entry holds; all parameters (and groups) of the finding must be covered, not only some."""
    return (
        _names(entry.rules, finding, checked.rules)
        and (not entry.targets or names.any_match(entry.targets, finding.target))
        and (not entry.parameters or _all(finding.parameters, entry.parameters))
        and (not entry.modules or _all(finding.modules, entry.modules))
        and (not entry.groups or _in_groups(entry, finding, checked))
    )


def _all(subjects: Sequence[str], patterns: Sequence[str]) -> bool:
    return bool(subjects) and all(names.any_match(patterns, name) for name in subjects)


def _in_groups(entry: Suppression, finding: Finding, checked: CheckedRun) -> bool:
    labels = [
        (index, checked.group_names.get((finding.target, optimizer, index))) for optimizer, index in finding.groups
    ]
    return bool(labels) and all(index in entry.groups or name in entry.groups for index, name in labels)


def _names(selectors: Iterable[str], finding: Finding, rules: Mapping[str, tuple[str, str]] | None = None) -> bool:
    family = (rules or {}).get(finding.rule, ("", ""))[1]
    return any(selects(selector, finding.rule, finding.name, family) for selector in selectors)


def selects(selector: str, code: str, name: str, family: str) -> bool:
    """Whether a selector (code, prefix, name, family or ALL) means the rule."""
    sought = selector.lower()
    return (
        sought in (code.lower(), name, "all")
        or (bool(family) and sought == family)
        or names.is_prefix(sought.upper(), code)
    )


def _comment_problem(comment: Comment, used: bool, checked: CheckedRun) -> str:
    """What is wrong with a comment, or ''."""
    if not comment.rules:
        return f"`{comment.kind}` names no rule: write {comment.kind}[LR301]"
    return _rules_problem(comment.rules, checked) or ("" if used else _idle(comment.rules, checked, True))


def _entry_problem(entry: Suppression, checked: CheckedRun) -> str:
    return _rules_problem(entry.rules, checked) or _idle(entry.rules, checked, checked.complete)


def _rules_problem(selectors: Sequence[str], checked: CheckedRun) -> str:
    from lrlint.config.json_schema import suggestion

    for selector in selectors:
        if not matching(selector) and not _matched(selector, checked.rules):
            near = suggestion(selector, [*checked.rules, *(name for name, _ in checked.rules.values())])
            return f"there is no rule {selector!r}" + (near if "did you mean" in near else "")
    return ""


def _matched(selector: str, rules: Mapping[str, tuple[str, str]]) -> list[str]:
    return [code for code, (name, family) in rules.items() if selects(selector, code, name, family)]


def _idle(selectors: Sequence[str], checked: CheckedRun, complete: bool) -> str:
    """Said only when each rule it names has run: a rule that was skipped or left out might still find something."""
    concerned = {code for selector in selectors for code in _matched(selector, checked.rules)}
    if not complete or not concerned or not concerned <= set(checked.ran):
        return ""
    return f"the suppression of {', '.join(selectors)} sets nothing aside"


def _unused_comment(comment: Comment, target: str, problem: str) -> Finding:
    return Finding(
        None,
        problem,
        rule=UNUSED.code,
        name=UNUSED.name,
        severity=UNUSED.severity,
        confidence=UNUSED.confidence,
        target=target,
        modules=(f"{comment.span.path}:{','.join(comment.rules)}",),
        locations=(comment.span,),
        help="remove it" if comment.rules else "",
    )


def _problem(kind: Builtin, entry: Suppression, message: str) -> Finding:
    return Finding(
        None,
        message,
        rule=kind.code,
        name=kind.name,
        severity=kind.severity,
        confidence=kind.confidence,
        modules=(",".join((*entry.rules, *entry.parameters, *entry.modules, *map(str, entry.groups), *entry.targets)),),
        locations=(entry.span,) if entry.span else (),
        data={"reason": entry.reason},
    )


def _expired(entry: Suppression) -> str:
    return f"the suppression of {', '.join(entry.rules)} ended on {entry.until}: {entry.reason}"
