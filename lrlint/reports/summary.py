"""The line that closes a report: what was found, what was set aside, what ran and what could not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lrlint.reports.style import clean
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.lint.run import Run


def summary(run: Run) -> str:
    """``2 errors, 1 warning (1 suppressed, 3 baselined) · 61 rules, 4 skipped: no schedule horizon given``."""
    counts = run.counts()
    counted = [
        count(counts[severity], noun)
        for severity, noun in (("error", "error"), ("warning", "warning"))
        if counts[severity]
    ]
    if counts["info"]:
        counted.append(f"{counts['info']} info")
    aside = []
    if counts["suppressed"]:
        debt = f", {counts['fixme']} to fix" if counts["fixme"] else ""
        aside.append(f"{counts['suppressed']} suppressed{debt}")
    if counts["baselined"]:
        aside.append(f"{counts['baselined']} baselined")
    text = ", ".join(counted) or "no findings"
    if aside:
        text += f" ({', '.join(aside)})"
    parts = [text]
    if len(run.targets) > 1:
        parts.append(count(len(run.targets), "target") + (f", {len(run.failures)} failed" if run.failures else ""))
    elif run.failures:
        parts.append("the target failed")
    if run.checked:
        parts.append(count(run.ran, "rule") + _skipped(run))
    return " · ".join(parts)


def _skipped(run: Run) -> str:
    rules = {skipped.rule for skipped in run.skipped}
    if not rules:
        return ""
    reasons = Counter(clean(skipped.reason) for skipped in run.skipped)
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    only = len(ordered) == 1
    shown = [reason if only else f"{reason} ({count})" for reason, count in ordered]
    return f", {len(rules)} skipped: {'; '.join(shown)}"


def statistics(run: Run) -> str:
    """How often each rule found something, most often first; those set aside are counted beside."""
    active = Counter((finding.rule, finding.name) for finding in run.active)
    aside = Counter((finding.rule, finding.name) for finding in run.findings if finding.suppressed)
    order = sorted(active | aside, key=lambda key: (-active[key], key))
    wide = max((len(f"{active[key]:,}") for key in order), default=0)
    lines = [
        f"{active[key]:>{wide},}  {key[0]} {key[1]}" + (f" (and {aside[key]} set aside)" if aside[key] else "")
        for key in order
    ]
    return "\n".join(["", *lines]) + "\n" if lines else ""
