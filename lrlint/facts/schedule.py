"""What the scheduler will do to each group: traces over the run, and the rates that follow from them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lrlint.facts.span import Span

if TYPE_CHECKING:
    from lrlint.facts.core import Optimizer


#: A rate below this share of its peak trains nothing any more.
GONE = 1e-3


@dataclass(frozen=True, slots=True)
class Trace:
    """One option of one group over the horizon: values at ascending steps.

    First, last and extreme values and every jump are exact; between two points the value lies on the line that joins
    them, within 0.2 % of the trace's range.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def peak(self) -> float:
        return max(self.values)

    @property
    def floor(self) -> float:
        return min(self.values)

    @property
    def first(self) -> float:
        return self.values[0]

    @property
    def last(self) -> float:
        return self.values[-1]

    @property
    def peak_step(self) -> int:
        """The first step at which the peak is reached."""
        return self.steps[self.values.index(self.peak)]

    @property
    def gone_from(self) -> int | None:
        """The first step after the peak at which no more than ``GONE`` of it is left, or None."""
        limit, peak_step = GONE * self.peak, self.peak_step
        points = zip(self.steps, self.values, strict=True)
        return next((step for step, value in points if step > peak_step and value <= limit), None)

    def constant(self, tolerance: float = 1e-9) -> bool:
        """Whether the values differ by no more than ``tolerance`` relative to the largest."""
        return self.peak - self.floor <= tolerance * max(abs(self.peak), abs(self.floor))

    @property
    def negative_from(self) -> int | None:
        """The first step with a negative value, or None."""
        after = next((index for index, value in enumerate(self.values) if value < 0), None)
        if not after:
            return None if after is None else self.steps[0]
        left, right = self.steps[after - 1], self.steps[after]
        high, low = self.values[after - 1], self.values[after]
        crossing = (right - left) * high / (high - low)
        return left + math.floor(crossing + 1e-9) + 1  # a rate of exactly 0 is not negative yet

    def at(self, step: float) -> float:
        """The value at a step, on the line between the two points around it."""
        right = bisect_right(self.steps, step)
        if right == 0:
            return self.values[0]
        if right == len(self.steps):
            return self.values[-1]
        left_step, right_step = self.steps[right - 1], self.steps[right]
        left, following = self.values[right - 1], self.values[right]
        return left + (following - left) * (step - left_step) / (right_step - left_step)


@dataclass(frozen=True, slots=True)
class GroupSchedule:
    """Traces of one parameter group. ``before``: its numeric options before any scheduler touched them, where known."""

    group: int
    lr: Trace | None = None
    others: Mapping[str, Trace] = field(default_factory=dict)  # weight_decay, momentum, betas.0, betas.1
    before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One scheduler object (with its children) over one optimizer. ``skipped``: why it was not simulated.

    ``optimizer`` is the index of the optimizer it drives; None when that is none of the target's. ``horizon`` counts
    the steps simulated: optimizer steps, or epochs where ``unit`` is ``epoch`` (the length of an epoch is not known).
    Schedulers that share an optimizer are stepped side by side, as in training: their traces are the same.

    ``details``, each key only where it says something:

    - ``horizon_from``: ``total_steps`` (declared), ``scheduler`` (its own length) or ``default`` (a short look ahead);
    - ``clock_from``: what tells ``period``, the optimizer steps per scheduler step (below 1: several scheduler steps
      per optimizer step): ``declared``, ``lightning``, ``source`` (the training loop), ``class``, ``length``,
      ``argument``, ``course`` (only one clock makes sense of it) or ``assumed``;
      ``interval`` (``step`` or ``epoch``), ``frequency`` and ``monitor`` as configured, ``calls_per_step``;
      ``config``: the entry of a Lightning scheduler configuration, as written;
    - ``length``, ``length_name``: after how many of its own steps it is over, and which argument says so
      (``final``: false when it only stops changing there); ``start``: its own step when it was taken over;
    - ``per_step``: the class counts optimizer steps by convention; ``shape``: the leaf classes' kinds, a list of
      ``constant``, ``decay``, ``warmup``, ``cycle``, ``plateau``, ``lambda``, ``averaging``, ``other``;
    - ``attributes``: its public numbers and strings; ``children``: the same record of each nested scheduler, with
      ``class_name``, ``qualified``, ``attributes``, ``lists``, ``base_lrs``, ``foreign`` (drives another optimizer), and
      ``begins``: the steps at which the second and the following children of a sequence take over;
    - ``lists``: length of each of its per-group lists; ``base_lrs``: the rates it scales; ``last_lrs``: those it set last;
    - ``floor``, ``floor_name``: the absolute rate it anneals to (``floors``: one per group);
    - ``lambdas``: ``count``, ``distinct``, ``arguments`` (names of the counter), ``names`` and ``modules`` of the
      functions, and where all see one variable ``shared`` (its names), ``loop`` (those that a loop sets) or
      ``source`` (false: it was not at hand);
    - ``plateau``: ``mode``, ``factor``, ``patience``, ``min_lrs``, ``default_min_lr``;
    - ``error``: ``step``, ``type``, ``message`` of what its step raised; ``non_finite``: ``step``, ``group``;
    - ``capped``: the step up to which it was followed when the horizon is longer;
    - ``constructed_at``: the ``last_epoch`` it was constructed with, unless that was -1 (a fresh run);
    - ``curve``: the rates by its own formula one step before its position, there, and one step after (where the optimizer has
      state);
    - ``dropped``: a LightningModule built it and did not return it, so that nothing steps it;
    - ``orphan``: class of the optimizer it drives when that is none of the target's;
    - ``together``: indices of all schedulers that drive the same optimizer; ``nested``: it also stands inside another;
      ``yields_to``: class of the scheduler that takes over from it before the end of the run.
    """

    index: int
    class_name: str
    qualified: str
    optimizer: int | None
    horizon: int | None = None
    groups: tuple[GroupSchedule, ...] = ()
    skipped: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "step"
    period: float = 1.0
    span: Span | None = None

    @property
    def declared(self) -> bool:
        """Whether the horizon is the run's own, so that what happens within it will happen in training."""
        return self.details.get("horizon_from") == "total_steps" and "capped" not in self.details

    @property
    def whole(self) -> bool:
        """Whether the traces cover the run, or the scheduler's own length."""
        return self.details.get("horizon_from") in ("total_steps", "scheduler") and "capped" not in self.details

    @property
    def leads(self) -> bool:
        """Whether this is the first of the schedulers on its optimizer: their common traces are judged once."""
        return bool(self.groups) and self.index == min(self.details.get("together", (self.index,)))

    def late(self, group: int) -> bool:
        """Whether the group was added to the optimizer after the scheduler was built."""
        return any(group >= len(node["base_lrs"]) for node in self.nodes() if "base_lrs" in node)

    def of(self, *groups: int) -> Schedule:
        """The schedule with only some of its groups, as the subject of a finding about those."""
        return replace(self, groups=tuple(group for group in self.groups if group.group in groups))

    def nodes(self) -> Iterator[Mapping[str, Any]]:
        """The details of this scheduler, then of every scheduler nested in it."""
        waiting: list[Mapping[str, Any]] = [self.details]
        while waiting:
            node = waiting.pop(0)
            yield node
            waiting.extend(node.get("children", ()))


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
    bases = schedule.details.get("base_lrs") or ()
    given = found.before.get("lr")
    if isinstance(given, float) and ("error" in schedule.details or schedule.late(found.group)):
        return given if schedule.late(found.group) else max(given, lr.peak)
    if schedule.whole or found.group >= len(bases) or lr.peak_step == lr.steps[0] or lr.peak_step < lr.steps[-1]:
        return lr.peak
    return float(bases[found.group])
