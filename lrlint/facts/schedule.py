"""What the scheduler will do to each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Trace:
    """One option of one group over the horizon: values at ascending steps (first, last, extremes and change points are exact)."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def peak(self) -> float:
        return max(self.values)

    @property
    def floor(self) -> float:
        return min(self.values)


@dataclass(frozen=True, slots=True)
class GroupSchedule:
    """Traces of one parameter group. ``before``: its options before any scheduler touched them, where known."""

    group: int
    lr: Trace | None = None
    others: Mapping[str, Trace] = field(default_factory=dict)  # weight_decay, momentum, betas.0, betas.1
    before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One scheduler object (with its children) over one optimizer. ``skipped``: why it was not simulated."""

    index: int
    class_name: str
    qualified: str
    optimizer: int | None
    horizon: int | None = None
    groups: tuple[GroupSchedule, ...] = ()
    skipped: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
