"""What the scheduler will do to each group: traces over the run."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lrlint.facts.span import Span

#: A rate below this share of its peak trains nothing any more.
NEGLIGIBLE_SHARE = 1e-3


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
    def negligible_from(self) -> int | None:
        """The first step after the peak at which no more than ``NEGLIGIBLE_SHARE`` of it is left, or None."""
        limit, peak_step = NEGLIGIBLE_SHARE * self.peak, self.peak_step
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
      per optimizer step): ``declared``, ``rehearsal`` (seen), ``lightning``, ``source`` (the training loop), ``class``,
      ``length``, ``argument``, ``course`` (only one clock makes sense of it) or ``assumed``;
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
    def has_declared_horizon(self) -> bool:
        """Whether the horizon is the run's own, so that what happens within it will happen in training."""
        return self.details.get("horizon_from") == "total_steps" and "capped" not in self.details

    @property
    def covers_run(self) -> bool:
        """Whether the traces cover the run, or the scheduler's own length."""
        return self.details.get("horizon_from") in ("total_steps", "scheduler") and "capped" not in self.details

    @property
    def is_primary(self) -> bool:
        """Whether this is the first of the schedulers on its optimizer: their common traces are judged once."""
        return bool(self.groups) and self.index == min(self.details.get("together", (self.index,)))

    def added_after(self, group: int) -> bool:
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
