"""The rates of an optimizer's groups over the run, and each group's peak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lrlint.facts.optimizers import Optimizer
from lrlint.facts.schedule import GroupSchedule, Schedule, Trace


@dataclass(frozen=True, slots=True)
class RatesAt:
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
class RateProfile:
    """An optimizer's groups at three instants: when training starts, at each group's own peak (not one moment: groups may
    peak at different steps), and when it ends.

    Rates are in the optimizer's own unit; products are rate × weight decay, without unit.

    Without a simulated schedule all three are the groups' present rates (their peak: ``Group.peak_lr``).
    """

    start: RatesAt
    peak: RatesAt
    end: RatesAt


_Pair = tuple[float | None, float | None]


def rate_profile(optimizer: Optimizer, schedules: Iterable[Schedule] = ()) -> RateProfile:
    """Rates and rate × decay of the optimizer's groups over the run."""
    own = [schedule for schedule in schedules if schedule.optimizer == optimizer.index]
    traces = {group.group: group for schedule in own for group in schedule.groups}
    start: list[_Pair] = []
    peak: list[_Pair] = []
    end: list[_Pair] = []
    for group in optimizer.groups:
        group_schedule = traces.get(group.index)
        lr = group_schedule.lr if group_schedule else None
        if group_schedule is None or lr is None:
            highest = group.lr if group.peak_lr is None else group.peak_lr
            for moment, rate in ((start, group.lr), (peak, highest), (end, group.lr)):
                moment.append((rate, None if rate is None else rate * group.weight_decay))
            continue
        decay = group_schedule.others.get("weight_decay") or Trace((lr.steps[0],), (group.weight_decay,))
        start.append((lr.first, lr.first * decay.first))
        end.append((lr.last, lr.last * decay.last))
        steps = sorted({*lr.steps, *decay.steps})
        highest = lr.peak if group.peak_lr is None else group.peak_lr
        peak.append((highest, max(lr.at(step) * decay.at(step) for step in steps)))
    return RateProfile(_moment(start), _moment(peak), _moment(end))


def _moment(pairs: Sequence[_Pair]) -> RatesAt:
    return RatesAt(tuple(rate for rate, _ in pairs), tuple(product for _, product in pairs))


def peak_rate(schedules: Iterable[Schedule], optimizer: int, group: int) -> float | None:
    """The largest rate the group will have, or None where no schedule was simulated for it.

    Over a look ahead of default length the scheduler may not have reached its peak yet, or have left the range it will
    be used in: the rate it scales (``base_lrs``) counts there, unless the group falls from the start. Where the scheduler
    was not built for the group, or raises, the rate that the group was given counts: that fault has a rule of its own.
    """
    for schedule in schedules:
        if schedule.optimizer != optimizer:
            continue
        for group_schedule in schedule.groups:
            if group_schedule.group == group and group_schedule.lr is not None:
                return _peak(schedule, group_schedule, group_schedule.lr)
    return None


def _peak(schedule: Schedule, group_schedule: GroupSchedule, lr: Trace) -> float:
    bases = schedule.base_lrs
    configured = group_schedule.before.get("lr")
    if isinstance(configured, float) and (schedule.error is not None or schedule.added_after(group_schedule.group)):
        return configured if schedule.added_after(group_schedule.group) else max(configured, lr.peak)
    if (
        schedule.covers_run
        or group_schedule.group >= len(bases)
        or lr.peak_step == lr.steps[0]
        or lr.peak_step < lr.steps[-1]
    ):
        return lr.peak
    return float(bases[group_schedule.group])
