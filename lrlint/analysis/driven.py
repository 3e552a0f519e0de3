"""Which schedules are judged, beside the optimizer that each drives, and the rates they scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a rule's documentation is shown without loading the facts
    from lrlint.facts import GroupSchedule, Optimizer, Schedule, Setup


def driven(setup: Setup) -> Iterator[tuple[Schedule, Optimizer]]:
    """Each schedule with the optimizer it drives.

    Left out are schedules that were not simulated, that drive none of the target's optimizers, and all but the first on
    an optimizer: what they do together is in the traces of each.
    """
    for schedule in setup.schedules:
        if schedule.is_primary and schedule.optimizer is not None:
            yield schedule, setup.optimizers[schedule.optimizer]


def base_rate(schedule: Schedule, scheduled: GroupSchedule) -> float:
    """The rate that the schedule scales for a group; the group's own before, where the scheduler does not say; else 0."""
    bases = schedule.base_lrs
    return bases[scheduled.group] if scheduled.group < len(bases) else scheduled.before.get("lr", 0.0)
