"""The audit report as plain values: what HTML and Markdown both show, target by target."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lrlint.errors import UsageError
from lrlint.facts import Optimizer, Setup
from lrlint.lint.finding import Finding
from lrlint.lint.rule import Rule
from lrlint.lint.setup_diff import Comparison, compare
from lrlint.reports.links import rule_page
from lrlint.reports.views.card import card, present
from lrlint.reports.views.chart import ScheduleView, schedule_view
from lrlint.reports.views.group_map import GroupMap, group_map
from lrlint.reports.views.identity import Identity
from lrlint.reports.views.ladders import GroupRow, group_rows
from lrlint.reports.views.parameters import PatternRow, pattern_rows
from lrlint.reports.views.verdict import Verdict, verdict
from lrlint.text import names
from lrlint.text.sources import Sources
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.lint.run import Checked, Failure, Run


@dataclass(frozen=True)
class Context:
    """What a report says beyond the run: who made it of what, and the setups that the targets are compared with."""

    identity: Identity = field(default_factory=Identity)
    against: Mapping[str, Setup] = field(default_factory=dict)
    against_name: str = ""


@dataclass(frozen=True, slots=True)
class Aside:
    """A finding that something accepted."""

    rule: str
    severity: str
    message: str
    by: str
    reason: str
    until: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Rules that did not run for one reason, and what would let them (``command`` may be empty)."""

    reason: str
    rules: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class FindingView:
    """A finding with an anchor on the page, the paragraph of its rule that says why it matters (at the rule's first
    finding in a report), and the rule's page.
    """

    finding: Finding
    anchor: str
    why: str
    link: str
    subjects: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OptimizerView:
    """An optimizer with its groups as rows."""

    optimizer: Optimizer
    rows: tuple[GroupRow, ...]


@dataclass(frozen=True)
class TargetView:
    """One target's part of the report. ``setup`` is None where the target failed."""

    name: str
    anchor: str
    verdict: Verdict
    ran: int = 0
    failure: Failure | None = None
    setup: Setup | None = None
    card: tuple[tuple[str, str], ...] = ()
    map: GroupMap | None = None
    optimizers: tuple[OptimizerView, ...] = ()
    schedules: tuple[ScheduleView, ...] = ()
    findings: tuple[FindingView, ...] = ()
    aside: tuple[Aside, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    patterns: tuple[PatternRow, ...] = ()
    change: Comparison | None = None
    sources: Sources | None = None

    @property
    def skipped(self) -> int:
        return sum(len(entry.rules) for entry in self.unchecked)


@dataclass(frozen=True)
class Audit:
    """The whole report. ``general`` are findings about no target; ``beside``: settings × targets, where there are
    several (a row is (setting, values, whether they differ))."""

    targets: tuple[TargetView, ...]
    general: tuple[FindingView, ...]
    beside: tuple[tuple[str, tuple[str, ...], bool], ...]
    context: Context


def audit(run: Run, context: Context | None = None) -> Audit:
    """The report of a run."""
    context = context or Context()
    documents = {rule.code: rule.documentation for rule in run.rules}
    views = [_finding(f, f"finding-{n}", documents.get(f.rule, "")) for n, f in enumerate(run.active, 1)]
    targets = [_target(part, run, context, index) for index, part in enumerate(run.checked, 1)]
    targets += [_failed(failure, index) for index, failure in enumerate(run.failures, len(targets) + 1)]
    targets = [replace(t, findings=tuple(v for v in views if v.finding.target == t.name)) for t in targets]
    told: set[str] = set()  # in the order of the page
    targets = [replace(t, findings=tuple(_told_once(t.findings, told))) for t in targets]
    known = {target.name for target in targets}
    general = tuple(view for view in views if view.finding.target not in known)
    return Audit(tuple(targets), general, _beside([t for t in targets if t.setup is not None]), context)


def _told_once(views: Iterable[FindingView], told: set[str]) -> Iterator[FindingView]:
    """Without a paragraph that the page has above."""
    for view in views:
        yield replace(view, why="") if view.why in told else view
        told.add(view.why)


def matched(before: Setup | None, run: Run) -> dict[str, Setup]:
    """A snapshot with the target it is of: the one of its name, else the only one. Raises UsageError."""
    if before is None:
        return {}
    targets = [part.target for part in run.checked]
    if before.target in targets:
        return {before.target: before}
    if len(targets) == 1:
        return {targets[0]: before}
    raise UsageError(
        f"--against: the snapshot is of {before.target or 'no named target'}, which is none of {', '.join(targets)}",
        "name the target that it is to be compared with",
    )


def _failed(failure: Failure, index: int) -> TargetView:
    sentence = Verdict("failed", f"could not be read: {failure.message}")
    return TargetView(failure.target, f"target-{index}", sentence, failure=failure)


def _target(part: Checked, run: Run, context: Context, index: int) -> TargetView:
    setup = part.setup
    findings = [finding for finding in run.findings if finding.target == part.target]
    before = context.against.get(part.target)
    return TargetView(
        name=part.target,
        anchor=f"target-{index}",
        verdict=verdict(findings, setup),
        ran=part.ran,
        setup=setup,
        card=tuple(card(setup)),
        map=group_map(setup),
        optimizers=tuple(OptimizerView(o, tuple(group_rows(setup, o))) for o in setup.optimizers),
        schedules=tuple(schedule_view(s, _labels(setup, s.optimizer)) for s in setup.schedules),
        aside=tuple(_aside(finding) for finding in findings if finding.suppressed),
        unchecked=tuple(_unchecked(part)),
        patterns=tuple(pattern_rows(setup)),
        change=None if before is None else compare(before, setup),
        sources=run.sources(part.target),
    )


def _labels(setup: Setup, optimizer: int | None) -> dict[int, str]:
    return {} if optimizer is None else {group.index: group.label for group in setup.optimizers[optimizer].groups}


def _aside(finding: Finding) -> Aside:
    by = finding.suppressed or {}
    where = f"{by.get('by', '')} {by.get('where', '')}".strip()
    by_whom = (str(by.get(key) or "") for key in ("reason", "until"))
    return Aside(f"{finding.rule} {finding.name}", finding.severity, finding.message, where, *by_whom)


#: What to add for rules that need a fact: an option of the command line, or a word on what the target lacks.
_REMEDIES = {
    "probe": "--probe",
    "total_steps": "--total-steps N",
    "graph": "let the factory return example_inputs",
    "values": "check the target where its weights are loaded",
    "source": "check the training script: lrlint check --script train.py",
    "schedule": "--total-steps N",
}


def _unchecked(part: Checked) -> Iterable[Unchecked]:
    needs = {rule.code: rule.needs for rule in part.rules if isinstance(rule, Rule)}
    reasons: dict[str, list[str]] = {}
    remedies: dict[str, str] = {}
    for skipped in part.skipped:
        reasons.setdefault(skipped.reason, []).append(f"{skipped.rule} {skipped.name}")
        remedy = next((_REMEDIES[need] for need in needs.get(skipped.rule, ()) if need in _REMEDIES), "")
        remedies.setdefault(skipped.reason, remedy)
    for reason, rules in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        remedy = remedies[reason]
        command = f"lrlint check {shlex.quote(part.target)} {remedy}" if remedy.startswith("--") else remedy
        yield Unchecked(reason, tuple(rules), command)


def _finding(finding: Finding, anchor: str, documentation: str) -> FindingView:
    subjects = [(related.label, ", ".join(names.compress(related.parameters)[:6])) for related in finding.related]
    shown = tuple((label, subject) for label, subject in subjects if subject)
    return FindingView(finding, anchor, why(documentation), rule_page(finding.rule, documentation), shown)


def why(documentation: str) -> str:
    """The paragraph of a rule's documentation that says why it matters: the one after the summary."""
    paragraphs = [" ".join(text.split()) for text in documentation.split("\n\n")[1:]]
    telling = (
        text for text in paragraphs if not text.startswith(("What to do", "Sources", "Source:", "Options", "- "))
    )
    return next(telling, "").removeprefix("Why it matters: ")


def _beside(targets: list[TargetView]) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    if len(targets) < 2:
        return ()
    tables = [_settings(target) for target in targets]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = []
    for key in keys:
        values = tuple(table.get(key, "–") for table in tables)
        rows.append((key, values, len(set(values)) > 1))
    return tuple(rows)


def _settings(target: TargetView) -> dict[str, str]:
    assert target.setup is not None
    settings = {"verdict": target.verdict.text}
    for title, value in target.card:
        settings[title.partition(" ")[0] if title.startswith("optimizer") else title] = value
    decays = sorted({g.weight_decay for o in target.setup.optimizers for g in o.groups})
    settings["weight decay"] = ", ".join(f"{value:g}" for value in decays) or "–"
    lost = [p for p in present(target.setup) if p.requires_grad and p.index not in target.setup.membership]
    settings["in no optimizer"] = count(len(lost), "tensor") if lost else "–"
    settings["rules"] = f"{target.ran} ran, {target.skipped} did not"
    return settings
