"""Hold back what a rehearsed script writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrlint.rehearsal.rehearsal import Plan


@dataclass(frozen=True)
class Held:
    """How writes are held: ``mode`` as the sandbox has it, and why there is to be no rehearsal (``missing``)."""

    mode: str
    missing: str = ""
    source: Any = field(default=None, repr=False)

    @property
    def files(self) -> Sequence[str]:
        """What the script has written, and nothing on disk knows of."""
        return [] if self.source is None else [str(path) for path in self.source.files]


def hold(root: Path, plan: Plan) -> Held:
    """Hold the writes of this process and of those it starts. Call it before any of the user's code runs."""
    try:
        from lrlint.rehearsal import sandbox
    except ImportError:
        return Held("first step", "what it writes cannot be held back here")
    found = sandbox.hold(root, network=plan.network)
    if found.mode == "first step":
        return Held(found.mode, "what it writes cannot be held back here")
    if found.mode == "redirected" and not plan.asked:
        return Held(found.mode, "only Python's own writes could be held back here (--rehearse does so)")
    return Held(found.mode, "", found)
