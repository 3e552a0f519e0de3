"""The one path from facts to a result: Setup → rules → Run.

Command line, Python API and plugins all come through here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrlint._version import __version__
from lrlint.config import loader
from lrlint.facts import Setup
from lrlint.lint import baseline, engine, engine_rules, policies, suppressions
from lrlint.lint.engine import Skipped
from lrlint.lint.engine_rules import Builtin
from lrlint.lint.finding import CONFIDENCES, SEVERITIES, Finding, at_least
from lrlint.lint.rule import Rule
from lrlint.lint.selection import Selection, known_rules, select
from lrlint.text.grades import Severity
from lrlint.text.sources import Sources
from lrlint.text.wording import count, listing

if TYPE_CHECKING:
    from lrlint.config.settings import Settings

SCHEMA = "lrlint/1"


@dataclass(frozen=True)
class Failure:
    """A target that could not be inspected. ``trace`` is its traceback, trimmed to the user's frames."""

    target: str
    message: str
    exit_code: int
    hint: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Checked:
    """One target's part of a run: its facts, the rules that were enabled, what they found and which did not run."""

    setup: Setup
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    ran: int = 0
    root: Path | None = None

    @property
    def target(self) -> str:
        return self.setup.target


@dataclass(frozen=True, repr=False)
class Run:
    """The result of a check: findings (those set aside included), rules that were skipped, and the facts they read."""

    findings: tuple[Finding, ...] = ()
    checked: tuple[Checked, ...] = ()
    failures: tuple[Failure, ...] = ()
    fail_on: Severity = "warning"
    root: Path | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def setups(self) -> tuple[Setup, ...]:
        return tuple(part.setup for part in self.checked)

    @property
    def setup(self) -> Setup | None:
        """The facts of the only (or first) target."""
        return self.checked[0].setup if self.checked else None

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of all targets, those that failed last."""
        return (*(part.target for part in self.checked), *(failure.target for failure in self.failures))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Rules that could not run on some target, each with its reasons."""
        unique = {(s.rule, s.reason): s for part in self.checked for s in part.skipped}
        return tuple(unique[key] for key in sorted(unique))

    @property
    def ran(self) -> int:
        """The number of rules that ran on some target."""
        return max((part.ran for part in self.checked), default=0)

    @property
    def rules(self) -> tuple[Rule | Builtin, ...]:
        """Every rule that was enabled on some target, and the engine's own."""
        enabled = {rule.code: rule for part in self.checked for rule in part.rules}
        return (*engine_rules.ALL, *(enabled[code] for code in sorted(enabled)))

    @property
    def active(self) -> tuple[Finding, ...]:
        """Findings that nothing set aside."""
        return tuple(finding for finding in self.findings if not finding.suppressed)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings at or above ``fail_on``, else the code of a target that failed."""
        if self.failures:
            return max(failure.exit_code for failure in self.failures)
        return 1 if at_least(self.findings, self.fail_on) else 0

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def sources(self, target: str) -> Sources:
        """The source files of a target."""
        return Sources(next((part.root for part in self.checked if part.target == target and part.root), self.root))

    def counts(self) -> dict[str, int]:
        """Findings that nothing set aside, by severity (worst first), and how many were set aside and how."""
        severities = [f.severity for f in self.active]
        counts: dict[str, int] = {severity: severities.count(severity) for severity in reversed(SEVERITIES)}
        aside = [f.suppressed for f in self.findings if f.suppressed]
        counts["suppressed"] = sum(a.get("by") != "baseline" for a in aside)
        counts["fixme"] = sum(a.get("kind") == "fixme" for a in aside)
        counts["baselined"] = sum(a.get("by") == "baseline" for a in aside)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """The JSON envelope."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "targets": list(self.targets),
            "findings": [finding.to_dict() for finding in self.findings],
            "skipped": [{"rule": s.rule, "name": s.name, "reason": s.reason} for s in self.skipped],
            "errors": [
                {"target": f.target, "message": f.message, "hint": f.hint, "exit_code": f.exit_code}
                for f in self.failures
            ],
            "summary": {**self.counts(), "rules": self.ran, "ok": self.ok, "exit_code": self.exit_code},
        }

    def __repr__(self) -> str:
        counts = self.counts()
        parts = [count(counts[severity], severity) for severity in reversed(SEVERITIES) if counts[severity]]
        parts += [f"{counts[aside]} {aside}" for aside in ("suppressed", "fixme", "baselined") if counts[aside]]
        parts += [count(len(self.failures), "failed target")] if self.failures else []
        where = f" in {listing(target for target in self.targets if target)}" if any(self.targets) else ""
        return f"<Run: {', '.join(parts) or 'no finding'} from {count(self.ran, 'rule')}{where}>"


def lint(setup: Setup, settings: Settings) -> Run:
    """Run the selected rules over one Setup."""
    return conclude([examine(setup, select(settings))], settings)


def examine(setup: Setup, selection: Selection, root: Path | None = None) -> Checked:
    """What rules and policies find on one Setup; nothing is set aside yet.

    ``root`` is the folder that its spans are relative to.
    """
    settings = selection.settings
    outcome = engine.run_rules(setup, selection.rules, selection.options, selection.severities)
    findings = [*outcome.findings, *_policy_findings(setup, settings)]
    floor = CONFIDENCES.index(settings.min_confidence)
    kept = tuple(f for f in findings if CONFIDENCES.index(f.confidence) >= floor)
    return Checked(setup, selection.rules, kept, outcome.skipped, outcome.ran, root or _root(settings))


def conclude(
    parts: Sequence[Checked], settings: Settings, failures: Sequence[Failure] = (), complete: bool = True
) -> Run:
    """Set aside what comments, configuration and baseline accept. ``complete``: every configured target is here."""
    findings = [finding for part in parts for finding in part.findings]
    findings = suppressions.apply(
        findings,
        [part.setup for part in parts],
        {part.target: Sources(part.root) for part in parts},
        settings.suppress,
        _what_ran(parts, settings, complete and not failures),
        settings.today,
    )
    findings = [
        _engine_finding(finding, settings) for finding in findings if not _is_ignored(finding, settings.ignored)
    ]
    accepted = settings.baseline_path
    if accepted is not None:
        findings = baseline.apply(findings, baseline.load(accepted))
    return Run(tuple(findings), tuple(parts), tuple(failures), settings.fail_on, settings.root or _root(settings))


def _policy_findings(setup: Setup, settings: Settings) -> Iterable[Finding]:
    for finding in policies.findings(setup, settings.policies):
        if not _is_ignored(finding, settings.ignored):
            yield engine.complete(
                finding,
                Builtin(
                    finding.rule,
                    finding.name,
                    finding.severity or "error",
                    finding.message,
                    finding.confidence or "high",
                ),
                setup,
            )


def _is_ignored(finding: Finding, selectors: Iterable[str]) -> bool:
    own = finding.rule in {b.code for b in engine_rules.ALL} or not finding.rule.startswith("LR")
    family = "engine" if finding.rule.startswith("LR") else "policy"
    return own and any(suppressions.selects(selector, finding.rule, finding.name, family) for selector in selectors)


def _engine_finding(found: Finding, settings: Settings) -> Finding:
    severity = settings.severities.get(found.name)
    return replace(found, severity=severity) if severity and engine_rules.matching(found.name) else found


def _what_ran(parts: Sequence[Checked], settings: Settings, complete: bool) -> suppressions.CheckedRun:
    known = {r.code: (r.name, r.family) for r in known_rules(settings.extra_rules).rules}
    known.update({p.code: (p.name or "policy", "policy") for p in settings.policies})
    ran = [{r.code for r in part.rules} - {s.rule for s in part.skipped} for part in parts]
    everywhere = set.intersection(*ran) if ran else set()
    groups = {
        (part.target, optimizer.index, group.index): group.name
        for part in parts
        for optimizer in part.setup.optimizers
        for group in optimizer.groups
        if group.name
    }
    return suppressions.CheckedRun(everywhere | {p.code for p in settings.policies}, known, groups, complete)


def _root(settings: Settings) -> Path:
    return settings.root or loader.find(Path.cwd())[1]
