"""Accepted findings, by identity: an old finding stays quiet, a new one fails, however the file around it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrlint.config import files
from lrlint.errors import UsageError
from lrlint.lint.finding import Finding
from lrlint.text import names

SCHEMA = "lrlint-baseline/1"
#: A recorded measurement may grow by this factor before its finding counts as new.
WORSE = 1.1

_REPAIR = "restore it from version control, or delete it and run `lrlint baseline`"

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Baseline:
    """Accepted findings: fingerprint → entry."""

    entries: Mapping[str, Entry]

    def accepts(self, finding: Finding) -> bool:
        entry = self.entries.get(finding.fingerprint)
        if entry is None or not acceptable(finding):
            return False
        recorded, measured = entry.get("measured"), _measured(finding)
        return recorded is None or measured is None or measured <= recorded * WORSE


def load(path: Path) -> Baseline:
    """The baseline of a file; an empty one where there is no file. Raises UsageError."""
    with suppress(OSError):  # no path at all: reading it says so
        if not path.exists():
            return Baseline({})
    data = files.read_json(path, "baseline", _REPAIR)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UsageError(f"{path.name} is not a baseline of this version (schema {SCHEMA!r})", _REPAIR)
    entries = data.get("findings")
    if not isinstance(entries, list):
        raise UsageError(f"{path.name} is damaged: `findings` has to be a list of entries with a fingerprint", _REPAIR)
    for position, entry in enumerate(entries):
        if fault := _fault(entry):
            raise UsageError(f"{path.name} is damaged: findings[{position}] {fault}", _REPAIR)
    return Baseline({entry["fingerprint"]: entry for entry in entries})


def apply(findings: Sequence[Finding], baseline: Baseline) -> list[Finding]:
    """The findings, accepted ones marked as set aside."""
    mark = {"by": "baseline", "kind": "baseline", "where": "", "reason": "accepted earlier"}
    return [
        replace(finding, suppressed=mark) if not finding.suppressed and baseline.accepts(finding) else finding
        for finding in findings
    ]


def acceptable(finding: Finding) -> bool:
    """Probe findings are measurements of one run, and engine findings are about lrlint itself: neither is accepted."""
    return not finding.rule.startswith(("LR9", "LR0"))


def accept(before: Baseline, findings: Iterable[Finding], targets: Iterable[str]) -> Baseline:
    """The baseline with exactly these findings for these targets; entries of other targets stay.

    What was written by hand into an entry (a reason) stays too.
    """
    mine = set(targets)
    entries = {key: entry for key, entry in before.entries.items() if entry.get("target") not in mine}
    for finding in findings:
        if acceptable(finding) and _set_aside_by_baseline_or_open(finding):
            entries[finding.fingerprint] = {**before.entries.get(finding.fingerprint, {}), **_entry(finding)}
    return Baseline(entries)


def prune(
    before: Baseline, findings: Iterable[Finding], targets: Iterable[str], ran: Iterable[str], known: Iterable[str]
) -> Baseline:
    """Without the entries that are fixed: their target was checked, their rule ran, and the finding is gone.

    ``known`` are all targets there are: entries of a target that no longer exists go as well, when any is known.
    """
    mine, alive, present, there = set(targets), {finding.fingerprint for finding in findings}, set(ran), set(known)

    def gone(key: str, entry: Entry) -> bool:
        if entry.get("target") in mine:
            return key not in alive and entry.get("rule") in present
        return bool(there) and entry.get("target") not in there

    return Baseline({key: entry for key, entry in before.entries.items() if not gone(key, entry)})


def save(path: Path, baseline: Baseline) -> None:
    """Write it, sorted, in one step. Raises UsageError."""
    order = ("target", "rule", "fingerprint")
    entries = sorted(baseline.entries.values(), key=lambda entry: [str(entry.get(key, "")) for key in order])
    files.write(path, files.dump({"schema": SCHEMA, "findings": entries}))


def _set_aside_by_baseline_or_open(finding: Finding) -> bool:
    return not finding.suppressed or finding.suppressed.get("by") == "baseline"


#: What an entry holds, by key, and of which type; a person may add more (a reason).
_FIELDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("rule", "name", "target", "fingerprint"), (str,)),
    "subject": (list,),
    "measured": (int, float),
}


def _fault(entry: Any) -> str:
    """What is wrong with an entry, in words; "" for nothing."""
    if not isinstance(entry, dict):
        return "is no object"
    if "fingerprint" not in entry:
        return "has no fingerprint"
    for key, types in _FIELDS.items():
        if key in entry and (not isinstance(entry[key], types) or isinstance(entry[key], bool)):
            return f"has a {key!r} that is no {'number' if float in types else types[0].__name__}"
    return "" if all(isinstance(name, str) for name in entry.get("subject", ())) else "has a subject that is no text"


def _entry(finding: Finding) -> Entry:
    subject = sorted({names.star(name) for name in (*finding.parameters, *finding.modules)})
    measured = _measured(finding)
    return {
        "rule": finding.rule,
        "name": finding.name,
        "target": finding.target,
        "subject": subject,
        "fingerprint": finding.fingerprint,
        **({} if measured is None else {"measured": measured}),
    }


def _measured(finding: Finding) -> float | None:
    value = finding.data.get("measured")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
