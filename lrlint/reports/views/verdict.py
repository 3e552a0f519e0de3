"""The one sentence per target that the reader of a report looks for first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrlint.facts import Setup
from lrlint.lint.finding import Finding
from lrlint.text.wording import count, listing


@dataclass(frozen=True, slots=True)
class Verdict:
    """``severity`` is that of the worst finding, ``ok`` or ``failed``; ``text`` the sentence."""

    severity: str
    text: str


def verdict(findings: Sequence[Finding], setup: Setup) -> Verdict:
    """What the findings that nothing set aside, and the probe, say about starting the run."""
    active = [finding for finding in findings if not finding.suppressed]
    counts = {severity: sum(f.severity == severity for f in active) for severity in ("error", "warning", "info")}
    counted = [count(counts[severity], severity) for severity in ("error", "warning") if counts[severity]]
    hidden = sum(finding.severity == "error" for finding in findings if finding.suppressed)
    aside = f"; {count(hidden, 'error')} set aside" if hidden else ""
    if counts["error"]:
        return Verdict("error", f"{listing(counted)}: do not start{aside}")
    if counts["warning"]:
        return Verdict("warning", f"{listing(counted)}: look at {_them(counts['warning'])} before you start{aside}")
    if hidden:
        return Verdict("warning", f"{count(hidden, 'error')} set aside, no other error and no warning; {_probe(setup)}")
    notes = f", {count(counts['info'], 'note')}" if counts["info"] else ""
    return Verdict("ok", f"ready: no error, no warning{notes}; {_probe(setup)}")


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def _probe(setup: Setup) -> str:
    if setup.probe is None:
        return "the probe was not run"
    return {
        "stable": "the probe's steps were stable",
        "inconclusive": "the probe could not tell",
    }.get(setup.probe.verdict, f"the probe says {setup.probe.verdict}")
