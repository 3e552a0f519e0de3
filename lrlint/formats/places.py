"""Where a finding is shown in formats that need a file and a line, and identities that never collide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lrlint.facts import Span
from lrlint.finding import Finding

if TYPE_CHECKING:
    from lrlint.run import Run


def place(found: Finding, run: Run) -> Span:
    """The primary location; without one, the target's file, or the project's configuration."""
    if found.locations:
        return found.locations[0]
    file, colon, _ = found.target.rpartition(":")
    path = file if colon and file.endswith(".py") else found.target if found.target.endswith(".json") else ""
    return Span(path or "pyproject.toml", 1)


def unique(findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    """Each finding with its fingerprint; a repeated one gets a number, in the findings' own stable order."""
    seen: Counter[str] = Counter()
    for found in findings:
        seen[found.fingerprint] += 1
        count = seen[found.fingerprint]
        yield found, found.fingerprint if count == 1 else f"{found.fingerprint[:-3]}{count:03x}"
