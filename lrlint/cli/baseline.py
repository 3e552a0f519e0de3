"""What `lrlint baseline` does: accept the findings of a run, or drop the entries that are fixed."""

from __future__ import annotations

from dataclasses import replace

from lrlint.config import files
from lrlint.config.settings import BASELINE, Settings
from lrlint.lint import baseline
from lrlint.lint.run import Run
from lrlint.runner import session
from lrlint.text.wording import count


def update(asked: session.Request, prune: bool) -> tuple[Run, str]:
    """(the run, what was done). Nothing is written when a target failed, or the present file cannot be read."""
    settings = asked.settings
    path = settings.folder / (settings.baseline or BASELINE)
    baseline.load(path)  # a damaged one is said before the work
    run = session.check(replace(asked, settings=replace(settings, baseline="")))
    if run.failures:
        return run, ""
    targets = [part.target for part in run.checked]
    with files.locked(path):  # the check took its time: another process may have written meanwhile
        before = baseline.load(path)
        after = _after(before, run, settings, targets, prune)
        if after.entries != before.entries or not (prune or path.exists()):
            baseline.save(path, after)
    return run, _told(before, after, path.name)


def _after(
    before: baseline.Baseline, run: Run, settings: Settings, targets: list[str], prune: bool
) -> baseline.Baseline:
    if prune:
        # A rule that was skipped or not selected might still find what its entry accepts.
        ran = {r.code for part in run.checked for r in part.rules} - {
            s.rule for part in run.checked for s in part.skipped
        }
        ran |= {policy.code for policy in settings.policies}
        return baseline.prune(before, run.findings, targets, ran, settings.targets)
    return baseline.accept(before, run.findings, targets)


def _told(before: baseline.Baseline, after: baseline.Baseline, name: str) -> str:
    added, removed = (
        len(after.entries.keys() - before.entries.keys()),
        len(before.entries.keys() - after.entries.keys()),
    )
    return f"{name}: {count(len(after.entries), 'accepted finding')} ({added} new, {removed} removed)"
