"""The one path from facts to a result: Setup → rules → Run. Command line, Python API and plugins all come through here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrlint import __version__, catalog, engine
from lrlint.engine import Skipped
from lrlint.facts import Setup
from lrlint.finding import CONFIDENCES, SEVERITIES, Finding, at_least

if TYPE_CHECKING:
    from lrlint.config import Settings

SCHEMA = "lrlint/1"


@dataclass(frozen=True)
class Run:
    """The result of a check: findings (suppressed ones included), rules that were skipped, and the facts they read.

    ``errors`` are targets that could not be inspected: (target, message, exit code).
    """

    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    setups: tuple[Setup, ...] = ()
    targets: tuple[str, ...] = ()
    ran: int = 0
    fail_on: str = "warning"
    errors: tuple[tuple[str, str, int], ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def setup(self) -> Setup | None:
        """The facts of the only (or first) target."""
        return self.setups[0] if self.setups else None

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings at or above ``fail_on``, else the code of a target that failed."""
        if self.errors:
            return max(code for _, _, code in self.errors)
        return 1 if at_least(self.findings, self.fail_on) else 0

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON envelope."""
        active = [found for found in self.findings if not found.suppressed]
        counts = {severity: sum(f.severity == severity for f in active) for severity in reversed(SEVERITIES)}
        return {
            "schema": SCHEMA,
            "version": __version__,
            "targets": list(self.targets),
            "findings": [found.to_dict() for found in self.findings],
            "skipped": [{"rule": s.rule, "name": s.name, "reason": s.reason} for s in self.skipped],
            "errors": [{"target": target, "message": message, "exit_code": code} for target, message, code in self.errors],
            "summary": {**counts, "suppressed": len(self.findings) - len(active), "rules": self.ran, "ok": self.ok},
        }

    def _repr_html_(self) -> str:
        from lrlint.formats.html import fragment

        return fragment(self)


def lint(setup: Setup, settings: Settings) -> Run:
    """Run the selected rules over one Setup."""
    rules = catalog.load(settings.extra_rules).select(settings.select, settings.ignore, settings.extend_select)
    outcome = engine.run_rules(setup, rules, settings.options, settings.severities)
    floor = CONFIDENCES.index(settings.min_confidence)
    findings = tuple(f for f in outcome.findings if CONFIDENCES.index(f.confidence) >= floor)
    return Run(findings, outcome.skipped, (setup,), (setup.target,), outcome.ran, settings.fail_on)


def merge(runs: Sequence[Run]) -> Run:
    """Several targets' results as one."""
    skipped = {(s.rule, s.reason): s for run in runs for s in run.skipped}
    return Run(
        tuple(found for run in runs for found in run.findings),
        tuple(sorted(skipped.values(), key=lambda s: s.rule)),
        tuple(setup for run in runs for setup in run.setups),
        tuple(target for run in runs for target in run.targets),
        max((run.ran for run in runs), default=0),
        runs[0].fail_on if runs else "warning",
        tuple(error for run in runs for error in run.errors),
    )
