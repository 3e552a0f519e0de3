"""The work order for one target, as it is handed to its process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrlint.config.settings import Target


@dataclass(frozen=True)
class Job:
    """What to do with a target.

    ``folder`` is where its paths start; ``probe`` holds the probe's arguments (None: no probe), ``rehearsal`` those of
    the rehearsal of a script (None: it stops before its first step), ``scale`` those of a comparison of
    widths (None: there is one). ``beside``: how many such processes share the cores.
    ``env``: variables of the process (its rank, where several make up one run). ``overlay``: edited source by absolute
    path, which is loaded in place of the files. ``watched``: somebody sees what is told while it runs.
    """

    target: Target
    folder: Path
    probe: dict[str, Any] | None = None
    rehearsal: dict[str, Any] | None = None
    scale: dict[str, Any] | None = None
    beside: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    overlay: Mapping[str, str] = field(default_factory=dict)
    watched: bool = False


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
