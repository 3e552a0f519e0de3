"""What the absolute floor of a schedule makes of the rate of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lrlint.analysis.driven import base_rate

if TYPE_CHECKING:
    from lrlint.facts import Schedule

#: Two rates are the same up to here: one was computed from the other.
_SAME = 1e-6
#: A floor below this share of a group's rate lets the rate fall; above that one, it hardly does.
_LOW, _HIGH = 0.1, 0.5


@dataclass(frozen=True, slots=True)
class Floored:
    """One group beside the floor: the rate ``lr`` that is scheduled, and the ``peak`` that it comes to.

    ``kind``: it ``rises`` to the floor, ``stays`` there, or ``ends`` close to where it began.
    """

    kind: Literal["rises", "stays", "ends"]
    lr: float
    floor: float
    peak: float
    group: int


def floored(schedule: Schedule) -> list[Floored]:
    """Groups that the schedule lifts to its floor; where there are none, those it holds there; else those that end near.

    One floor is one fault: only the worst kind is told. A group that stays or ends high is one only beside another that
    falls far.
    """
    if schedule.floor is None:
        return []
    pairs = [
        (scheduled, base_rate(schedule, scheduled), schedule.floor.of(scheduled.group)) for scheduled in schedule.groups
    ]
    falls = any(base and floor < _LOW * base for _, base, floor in pairs)
    found = []
    for scheduled, base, floor in pairs:
        kind = _kind(base, floor, scheduled.lr.peak, falls) if scheduled.lr and base > 0 < floor else None
        if kind and scheduled.lr:
            found.append(Floored(kind, base, floor, scheduled.lr.peak, scheduled.group))
    kinds = {case.kind for case in found}
    worst = next((kind for kind in ("rises", "stays", "ends") if kind in kinds), None)
    return [case for case in found if case.kind == worst]


def _kind(base: float, floor: float, peak: float, falls: bool) -> Literal["rises", "stays", "ends"] | None:
    if min(floor, peak) > base * (1 + _SAME):
        return "rises"
    if falls and abs(floor - base) <= _SAME * base:
        return "stays"
    return "ends" if falls and base > floor > _HIGH * base else None
