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
    found = [
        count(counts[severity], noun)
        for severity, noun in (("error", "error"), ("warning", "warning"))
        if counts[severity]
    ]
    if counts["info"]:
        found.append(f"{counts['info']} info")
    aside = []
    if counts["suppressed"]:
        debt = f", {counts['fixme']} to fix" if counts["fixme"] else ""
        aside.append(f"{counts['suppressed']} suppressed{debt}")
    if counts["baselined"]:
        aside.append(f"{counts['baselined']} baselined")
    text = ", ".join(found) or "no findings"
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
