"""What a run is asked to do: frozen values, each with the place it came from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrlint.text.grades import Confidence, Severity

if TYPE_CHECKING:
    from lrlint.facts import Span

#: The baseline that is used, where it exists, when none is configured.
BASELINE = "lrlint-baseline.json"


@dataclass(frozen=True)
class Suppression:
    """One ``[[tool.lrlint.suppress]]`` entry: every given condition must hold. ``until`` is its last day."""

    rules: tuple[str, ...]
    reason: str
    parameters: tuple[str, ...] = ()
    groups: tuple[str | int, ...] = ()
    modules: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    until: datetime.date | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Policy:
    """One ``[[tool.lrlint.policy]]`` entry: which parameters it is about, and what their groups must satisfy."""

    code: str
    require: Mapping[str, Any]
    name: str = ""
    severity: Severity = "error"
    parameters: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    groups: tuple[str | int, ...] = ()
    optimizers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    message: str = ""
    span: Span | None = None


@dataclass(frozen=True)
class Target:
    """Something to check: its name in findings, what to call, and what was said about it.

    ``target`` is ``module:factory``, ``file.py:factory`` or a snapshot; otherwise ``model``, ``optimizer`` (and
    ``scheduler``) are factories, or ``script`` is a training script to run with ``script_args`` to its first step
    (or to the step of number ``at_step``; of the optimizer called ``steps_of``, where that is given).
    ``declared`` are facts about the run (``total_steps``, ...). ``overrides`` are the rule selection of its table.
    ``timeout`` (seconds) and ``memory_limit`` (bytes) bound its process.
    ``configured``: it is one of the targets table (``span`` is its line there).
    """

    name: str
    target: str = ""
    model: str | None = None
    optimizer: str | None = None
    scheduler: str | None = None
    script: str | None = None
    script_args: tuple[str, ...] = ()
    at_step: int = 1
    steps_of: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    memory_limit: int | None = None
    graph: bool = True
    source_hook: bool = True
    declared: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    configured: bool = False
    span: Span | None = None

    @property
    def is_snapshot(self) -> bool:
        return self.target.endswith(".json")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run reports.

    ``root`` is the folder that paths in findings and in the configuration are relative to. ``origins`` says for each
    value (by configuration key) where it was set: ``default``, ``pyproject.toml:12``, ``--select``. ``today`` decides
    which suppressions have expired (None: the current date).
    """

    select: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    extend_ignore: tuple[str, ...] = ()
    fail_on: Severity = "warning"
    min_confidence: Confidence = "low"
    baseline: str | None = None
    extra_rules: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    severities: Mapping[str, Severity] = field(default_factory=dict)
    suppress: tuple[Suppression, ...] = ()
    policies: tuple[Policy, ...] = ()
    targets: Mapping[str, Target] = field(default_factory=dict)
    probe: Mapping[str, Any] = field(default_factory=dict)
    rehearsal: Mapping[str, Any] = field(default_factory=dict)
    root: Path | None = None
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    today: datetime.date | None = None

    @property
    def ignored(self) -> tuple[str, ...]:
        """All selectors that are not to run; they win over any selection."""
        return (*self.ignore, *self.extend_ignore)

    @property
    def folder(self) -> Path:
        """``root``, or the working directory."""
        return self.root or Path.cwd()

    @property
    def baseline_path(self) -> Path | None:
        """The baseline in use; None where there is none."""
        if self.baseline is not None:
            return self.folder / self.baseline if self.baseline else None
        default = self.folder / BASELINE
        return default if default.is_file() else None
