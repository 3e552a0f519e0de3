"""Hold back what a rehearsed script writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lrlint.rehearsal import sandbox
from lrlint.rehearsal.rehearsal import Plan
from lrlint.rehearsal.sandbox import Hold


@dataclass(frozen=True)
class Held:
    """How writes are held: ``mode`` as the sandbox has it, and why there is to be no rehearsal (``missing``)."""

    mode: str
    missing: str = ""
    source: Hold | None = field(default=None, repr=False)

    @property
    def files(self) -> Sequence[str]:
        """What the script has written, and nothing on disk knows of."""
        return [] if self.source is None else [file.path for file in self.source.files]

    @property
    def full(self) -> bool:
        """Whether what the script wrote filled the memory that holds it."""
        return self.source is not None and self.source.full


def hold(root: Path, plan: Plan) -> Held:
    """Hold the writes of this process and of those it starts. Call it before any of the user's code runs.

    On Linux it returns in a child process that takes this one's place.
    """
    cage = sandbox.hold(root, network=plan.network)
    if cage.mode == "first step" and plan.asked:
        cage = sandbox.hold(root, network=plan.network, mode="redirected")
    if cage.mode == "first step":
        return Held(cage.mode, f"what it writes cannot be held back here ({cage.reason})")
    return Held(cage.mode, "", cage)
