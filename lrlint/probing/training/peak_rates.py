"""At which rates a setup is probed: those at the peak of its schedule, with a short ramp where it warms up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrlint.facts import Group, Setup
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
