"""Where a finding is shown in formats that need a file and a line, and identities that never collide.

A span is relative to its project; what a code host reads has to be relative to the repository, of which the project
may be a folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from posixpath import join, normpath
from typing import TYPE_CHECKING

from lrlint.facts import Span
from lrlint.lint.finding import Finding

if TYPE_CHECKING:
    from lrlint.lint.run import Run


def location_of(finding: Finding, run: Run) -> Span:
    """The primary location; without one, the target's file, or the project's configuration."""
    if finding.locations:
        return in_repository(finding.locations[0], finding, run)
    file, colon, _ = finding.target.rpartition(":")
    path = file if colon and file.endswith(".py") else finding.target if finding.target.endswith(".json") else ""
    return in_repository(Span(path or "pyproject.toml", 1), finding, run)


def in_repository(span: Span, finding: Finding, run: Run) -> Span:
    """The span with its path relative to the repository that holds the target's project."""
    prefix = _prefix(run.sources(finding.target).root)
    return replace(span, path=normpath(join(prefix, span.path))) if prefix else span


@lru_cache(maxsize=64)
def _prefix(root: Path) -> str:
    """The project's folder in its repository; "" where that is the same folder, or there is no repository."""
    root = root.resolve()
    repository = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    inner = root.relative_to(repository).as_posix()
    return "" if inner == "." else inner


def unique(findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    """Each finding with its fingerprint; a repeated one gets a number, in the findings' own stable order."""
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.fingerprint] += 1
        count = seen[finding.fingerprint]
        yield finding, finding.fingerprint if count == 1 else f"{finding.fingerprint[:-3]}{count:03x}"
