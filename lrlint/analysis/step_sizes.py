"""By how much of their size one step changes the weights of a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrlint.analysis.param_groups import peak, runs_fast

if TYPE_CHECKING:
    from lrlint.facts import Group, Setup

#: Weights that are smaller than this are to grow from zero.
_TINY = 1e-3


def first_rate(setup: Setup, group: Group) -> tuple[float, bool]:
    """(the rate of the first step, whether the schedule rises to the peak later)."""
    for schedule in setup.schedules:
        for found in schedule.groups:
            if (schedule.optimizer, found.group) == (group.optimizer, group.index) and found.lr is not None:
                return found.lr.first, found.lr.first < 0.5 * peak(group)
    return peak(group), setup.manual_schedule


def median_change(groups: Sequence[Group], step: float) -> tuple[float, int]:
    """(median relative change weighted by size, number of matrices)."""
    changes = []
    for group in groups:
        for parameter in group.trainable:
            measured = parameter.values if parameter.role == "matrix" and not runs_fast(parameter) else None
            if measured and measured.rms >= _TINY:
                factor = _muon(group, parameter.shape or ()) if group.family == "muon" else 1.0
                changes.append((step * factor / measured.rms, parameter.numel))
    half = sum(numel for _, numel in changes) / 2
    for change, numel in sorted(changes):
        half -= numel
        if half <= 0:
            return change, len(changes)
    return 0.0, 0


def _muon(group: Group, shape: Sequence[int]) -> float:
    """Root mean square of Muon's update at rate 1; its iteration reaches 0.87 of an orthogonal matrix."""
    if group.options.get("adjust_lr_fn") == "match_rms_adamw":
        return 0.87 * 0.2
    rows, columns = shape[0], math.prod(shape[1:])
    return 0.87 * math.sqrt(max(1, rows / columns) / max(rows, columns))
