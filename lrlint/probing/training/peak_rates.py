"""At which rates a setup is probed: those at the peak of its schedule, with a short ramp where it warms up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lrlint.facts import Group, Setup, Trace
from lrlint.probing.search.low_rate import Length
from lrlint.probing.training.statistics import Key
from lrlint.text.names import canonical

#: Steps that lead to the peak where the schedule has a warm-up: its first step proves nothing, the bare peak too much.
RAMP = 15
_RISES = 0.9


def peaks(setup: Setup, now: Mapping[Key, float]) -> dict[Key, float]:
    """The peak rate of every group that has a rate (``now``: the groups' present ones) and a trainable parameter."""
    found = {}
    for optimizer in setup.optimizers:
        for group in optimizer.groups:
            key = (optimizer.index, group.index)
            if key in now and group.trainable:
                found[key] = now[key] if group.peak_lr is None else group.peak_lr
    return found


def ramp(setup: Setup, now: Mapping[Key, float]) -> int:
    """Steps up to the peak: 0 where the rates start there."""
    starts = dict(now)
    for schedule in setup.schedules:
        for course in schedule.groups:
            if schedule.optimizer is not None and course.lr is not None:
                starts[(schedule.optimizer, course.group)] = course.lr.first
    rising = [key for key, peak in peaks(setup, now).items() if starts[key] < _RISES * peak]
    return RAMP if rising else 0


def decay(setup: Setup, keys: Sequence[Key]) -> bool:
    """Whether the schedule takes the rate of every one of these groups below half its peak in the end."""
    courses = {(s.optimizer, c.group): c.lr for s in setup.schedules for c in s.groups if s.optimizer is not None}
    found = [courses.get(key) for key in keys]
    return bool(found) and all(course is not None and course.last < course.peak / 2 for course in found)


def length(setup: Setup, keys: Sequence[Key]) -> Length:
    """The training's optimizer steps, as declared or as its scheduler says, and the mean of the rates over their peak."""
    courses = {(s.optimizer, c.group): c.lr for s in setup.schedules for c in s.groups if s.optimizer is not None}
    means = [
        _mean(course) / course.peak for key in keys if (course := courses.get(key)) is not None and course.peak > 0
    ]
    own = [s.horizon for s in setup.schedules if s.horizon and s.unit == "step" and s.horizon_from == "scheduler"]
    total = setup.training.total_steps or max(own, default=0) or None
    return Length(total, sum(means) / len(means) if means else 1.0)


def _mean(course: Trace) -> float:
    """Over the steps of the trace, on the lines between its points."""
    points = list(pairwise(zip(course.steps, course.values, strict=True)))
    span = course.steps[-1] - course.steps[0]
    return sum((b - a) * (x + y) / 2 for (a, x), (b, y) in points) / span if span else course.last


def labels(setup: Setup, keys: Sequence[Key]) -> dict[Key, str]:
    """What findings call the groups: the user's name, the module they are, or their number; each different."""
    groups = {(group.optimizer, group.index): group for o in setup.optimizers for group in o.groups}
    modules = {key: _module(groups[key]) for key in keys}
    found = {}
    for key in keys:
        module = modules[key]
        alone = bool(module) and list(modules.values()).count(module) == 1
        found[key] = groups[key].name or (module if alone else f"group {key[1]}")
    several = len(setup.optimizers) > 1
    taken = list(found.values())
    for key, label in found.items():
        if several and taken.count(label) > 1:
            optimizer = setup.optimizers[key[0]]
            found[key] = f"{label} of {optimizer.name or optimizer.class_name}"
    return found


def _module(group: Group) -> str:
    """The innermost module that holds all parameters of the group."""
    owners = [canonical(p.name).rpartition(".")[0] for p in group.parameters]
    common: list[str] = []
    for parts in zip(*(owner.split(".") for owner in owners), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
