"""The rates of an optimizer's groups over the run, and each group's peak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lrlint.facts.optimizers import Optimizer
from lrlint.facts.schedule import GroupSchedule, Schedule, Trace


@dataclass(frozen=True, slots=True)
class Moment:
    """All groups of an optimizer at one point of the run, in group order.

    ``products`` are rate × weight decay: the share of a decoupled group's weights that one step takes away.
    """

    rates: tuple[float | None, ...]
    products: tuple[float | None, ...]

    @property
    def ratio(self) -> float | None:
        """Largest over smallest non-zero rate; None with fewer than two groups that have one."""
        rates = [rate for rate in self.rates if rate]
        return max(rates) / min(rates) if len(rates) > 1 and min(rates) > 0 else None


@dataclass(frozen=True, slots=True)
class Course:
    """An optimizer's groups when training starts, at each group's own peak, and when it ends.

    Without a simulated schedule all three are the groups' present rates (their peak: ``Group.peak_lr``).
    """

    start: Moment
    peak: Moment
    end: Moment


_Pair = tuple[float | None, float | None]


def course(optimizer: Optimizer, schedules: Iterable[Schedule] = ()) -> Course:
    """Rates and rate × decay of the optimizer's groups over the run."""
    ours = [schedule for schedule in schedules if schedule.optimizer == optimizer.index]
    traces = {group.group: group for schedule in ours for group in schedule.groups}
    start: list[_Pair] = []
    peak: list[_Pair] = []
    end: list[_Pair] = []
    for group in optimizer.groups:
        found = traces.get(group.index)
        lr = found.lr if found else None
        if found is None or lr is None:
            highest = group.lr if group.peak_lr is None else group.peak_lr
            for moment, rate in ((start, group.lr), (peak, highest), (end, group.lr)):
                moment.append((rate, None if rate is None else rate * group.weight_decay))
            continue
        decay = found.others.get("weight_decay") or Trace((lr.steps[0],), (group.weight_decay,))
        start.append((lr.first, lr.first * decay.first))
        end.append((lr.last, lr.last * decay.last))
        steps = sorted({*lr.steps, *decay.steps})
        highest = lr.peak if group.peak_lr is None else group.peak_lr
        peak.append((highest, max(lr.at(step) * decay.at(step) for step in steps)))
    return Course(_moment(start), _moment(peak), _moment(end))


def _moment(pairs: Sequence[_Pair]) -> Moment:
    return Moment(tuple(rate for rate, _ in pairs), tuple(product for _, product in pairs))


def peak_rate(schedules: Iterable[Schedule], optimizer: int, group: int) -> float | None:
    """The largest rate the group will have, or None where no schedule was simulated for it.

    Over a look ahead of default length the scheduler may not have reached its peak yet, or have left the range it will
    be used in: the rate it scales (``base_lrs``) counts there, unless the group falls from the start. Where the scheduler
    was not built for the group, or raises, the rate that the group was given counts: that fault has a rule of its own.
    """
    for schedule in schedules:
        if schedule.optimizer != optimizer:
            continue
        for found in schedule.groups:
            if found.group == group and found.lr is not None:
                return _peak(schedule, found, found.lr)
    return None


def _peak(schedule: Schedule, found: GroupSchedule, lr: Trace) -> float:
    bases = schedule.base_lrs
    given = found.before.get("lr")
    if isinstance(given, float) and (schedule.error is not None or schedule.late(found.group)):
        return given if schedule.late(found.group) else max(given, lr.peak)
    if schedule.whole or found.group >= len(bases) or lr.peak_step == lr.steps[0] or lr.peak_step < lr.steps[-1]:
        return lr.peak
    return float(bases[found.group])
