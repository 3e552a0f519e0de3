"""Try what could repair a target, one edit after another, and keep what the edited source proves.

A fix is proven when the edited source runs, its finding is gone, nothing new is found, and no parameter outside the
finding is treated differently than before.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from lrlint.fixes.edits import Source, applied, changed_lines, diff, same
from lrlint.fixes.propose import RULES, candidates
from lrlint.lint.finding import Finding
from lrlint.lint.run import Checked
from lrlint.lint.setup_diff import compare

#: Edited source by absolute path → the target checked with it; None where it does not run.
Check = Callable[[Mapping[str, str]], Checked | None]


@dataclass
class Repair:
    """The result: ``texts`` are the edited files by path relative to ``root``, ``before`` as they are on disk.

    ``fixed`` are the findings that are gone; ``open`` those that could not be repaired. ``steps`` are the proven edits in
    order: (finding, path, text of the file before, after it).
    """

    root: Path
    before: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    fixed: list[Finding] = field(default_factory=list)
    open: list[Finding] = field(default_factory=list)
    steps: list[tuple[Finding, str, str, str]] = field(default_factory=list)

    @property
    def overlay(self) -> dict[str, str]:
        return {str(self.root / path): text for path, text in self.texts.items()}

    def diff(self) -> str:
        return "".join(diff(path, self.before[path], self.texts[path]) for path in sorted(self.texts))


def repair(checked: Checked, root: Path, check: Check) -> Repair:
    """Repair what can be repaired of a target that was checked as it is."""
    result = Repair(root)
    tried: set[tuple[object, ...]] = set()
    current = checked
    while True:
        finding = next((f for f in current.findings if f.rule in RULES and _identity(f) not in tried), None)
        if finding is None:
            return result
        tried.add(_identity(finding))
        proven = _prove(finding, current, result, check)
        if proven is None:
            result.open.append(finding)
        else:
            left = {_identity(found) for found in proven.findings}
            gone = [f for f in current.findings if f.rule in RULES and _identity(f) not in left]
            result.fixed += gone
            result.open = [f for f in result.open if _identity(f) in left]
            current = proven


def _prove(finding: Finding, current: Checked, result: Repair, check: Check) -> Checked | None:
    """Take the first candidate that is proven into the result; the target as it is then."""
    path = finding.locations[0].path if finding.locations else ""
    if not path or Path(path).is_absolute() or ".." in Path(path).parts:
        return None  # not a file of the project
    try:
        text = result.texts.get(path) or (result.root / path).read_text(encoding="utf-8")
        source = Source(text)
    except (OSError, SyntaxError, ValueError):
        return None
    for edits in candidates(finding, source):
        if same(edits):
            continue
        edited = applied(text, edits)
        after = check({**result.overlay, str(result.root / path): edited})
        if after is not None and _holds(finding, current, after):
            result.before.setdefault(path, text)
            result.steps.append((finding, path, text, edited))
            result.texts[path] = edited
            return after
    return None


def _identity(finding: Finding) -> tuple[object, ...]:
    """A finding among others of its rule; a fingerprint is the same for equal places of repeated blocks."""
    return finding.rule, finding.parameters, finding.modules, finding.data.get("key")


def _holds(finding: Finding, before: Checked, after: Checked) -> bool:
    known = {found.fingerprint for found in before.findings}
    left = {_identity(found) for found in after.findings}
    if _identity(finding) in left or any(found.fingerprint not in known for found in after.findings):
        return False
    gone = [found for found in before.findings if found.rule in RULES and _identity(found) not in left]
    concerned = {name for found in gone for name in found.parameters}
    concerned.update(name for found in gone for related in found.related for name in related.parameters)
    changes = compare(before.setup, after.setup).changes
    return all(set(change.parameters) <= concerned for change in changes if change.parameters)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Lines ``first`` to ``last`` (counted from 1; ``last`` is exclusive) of a file as it is on disk become ``text``."""

    path: str
    first: int
    last: int
    text: str


def replacements(result: Repair) -> dict[str, list[Replacement]]:
    """By fingerprint what each finding's own edit replaces on disk; without those that build on another edit's lines."""
    found: dict[str, list[Replacement]] = {}
    for finding, path, before, after in result.steps:
        disk, old, new = (text.splitlines(keepends=True) for text in (result.before[path], before, after))
        place = {
            block.b + k: block.a + k
            for block in SequenceMatcher(None, disk, old, autojunk=False).get_matching_blocks()
            for k in range(block.size)
        }
        parts = []
        for tag, first, last, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if tag == "equal":
                continue
            lines = [place.get(line) for line in range(first, max(last, first + 1))]
            if lines[0] is None or None in lines:
                break
            parts.append(Replacement(path, lines[0] + 1, lines[0] + 1 + last - first, "".join(new[start:end])))
        else:
            found[finding.fingerprint] = parts
    return found


def uncommitted(root: Path, path: str, before: str, after: str) -> list[int]:
    """Lines that a fix touches and that differ from the last commit; empty without a repository."""
    try:
        shown = subprocess.run(
            ["git", "-C", str(root), "show", f"HEAD:./{path}"], capture_output=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return []
    committed = shown.stdout.decode("utf-8", "replace")
    own = set(changed_lines(before, committed))
    return sorted(own & set(changed_lines(before, after)))
