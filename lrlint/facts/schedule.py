"""What the scheduler will do to each group: traces over the run."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from lrlint.facts.scheduler import Floor, Length, Plateau, SchedulerKind, SchedulerNode
from lrlint.facts.span import Span

Unit: TypeAlias = Literal["step", "epoch"]
Interval: TypeAlias = Literal["", "step", "epoch"]
HorizonSource: TypeAlias = Literal["", "total_steps", "scheduler", "default"]
#: What tells how often a scheduler is stepped: a declaration, a ``rehearsal`` (seen), Lightning's configuration, the
#: ``source`` of the training loop, the scheduler's ``class``, its ``length`` beside the run, what a factor function
#: calls its ``argument``, its ``course`` (only one clock makes sense of it); else it was ``assumed``.
ClockSource: TypeAlias = Literal[
    "", "declared", "rehearsal", "lightning", "source", "class", "length", "argument", "course", "assumed"
]

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
class Clock:
    """When the scheduler is stepped. ``source`` is what tells: see `ClockSource`.

    ``calls``: scheduler steps that its wrapper makes of each call of ``step`` (accelerate: one per process).
    """

    source: ClockSource = ""
    interval: Interval = ""
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Position:
    """Where the scheduler stands when it is taken over, in its own steps (``start``).

    ``constructed_at`` is the ``last_epoch`` it was constructed with, None for -1 (a fresh run). ``last_lrs`` are the
    rates it set last. ``curve``: where the optimizer has state, the rates by the scheduler's own formula one step before
    its position, there, and one step after, each with one value per group.
    """

    start: int = 0
    constructed_at: int | None = None
    last_lrs: tuple[float, ...] = ()
    curve: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the scheduler stands to the target's optimizers and to its other schedulers.

    ``together`` are the indices of all that drive the same optimizer; ``nested``: it also stands inside another.
    ``yields_to`` is the class that takes over from it before the end of the run. ``dropped``: a LightningModule built
    it and did not return it, so that nothing steps it. ``orphan`` is the class of the optimizer it drives when that is
    none of the target's.
    """

    together: tuple[int, ...] = ()
    nested: bool = False
    yields_to: str = ""
    dropped: bool = False
    orphan: str = ""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """What the framework was told about the scheduler. ``framework`` is ``lightning``, ``accelerate`` or ``""``.

    ``written`` are the keys of a Lightning configuration that the user wrote, ``unknown`` those that Lightning does not
    know, ``stray`` those that stand beside "optimizer", where it does not read them.
    """

    framework: str = ""
    interval: str | None = None
    frequency: int | None = None
    monitor: str | None = None
    written: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The scheduler's ``step`` raised at this step: the exception's class and the first line of its message."""

    step: int
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class NonFinite:
    """An option of the group is nan or infinite from this step on."""

    step: int
    group: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """One scheduler object (with its children) over one optimizer. ``skipped``: why it was not simulated.

    ``optimizer`` is the index of the optimizer it drives; None when that is none of the target's. ``horizon`` counts
    the steps simulated: optimizer steps, or epochs where ``unit`` is ``epoch`` (the length of an epoch is not known);
    ``horizon_from`` is what it was taken from: the declared ``total_steps``, the ``scheduler``'s own length, or
    ``default``, a short look ahead. ``capped`` is the step up to which the scheduler was followed when the horizon is
    longer. ``period`` counts the optimizer steps per scheduler step (below 1: several scheduler steps per optimizer
    step). Schedulers that share an optimizer are stepped side by side, as in training: their traces are the same.

    ``kinds`` are those of the schedulers that compute rates, sorted; ``per_step``: the class counts optimizer steps by
    convention. ``root`` is the scheduler's own record, with those nested in it; None where it was dropped.
    """

    index: int
    class_name: str
    qualified: str
    optimizer: int | None
    horizon: int | None = None
    groups: tuple[GroupSchedule, ...] = ()
    skipped: str | None = None
    unit: Unit = "step"
    period: float = 1.0
    span: Span | None = None
    horizon_from: HorizonSource = ""
    capped: int | None = None
    error: Failure | None = None
    non_finite: NonFinite | None = None
    kinds: tuple[SchedulerKind, ...] = ()
    per_step: bool = False
    clock: Clock = Clock()
    length: Length | None = None
    floor: Floor | None = None
    position: Position = Position()
    wiring: Wiring = Wiring()
    config: SchedulerConfig | None = None
    root: SchedulerNode | None = None

    @property
    def declared(self) -> bool:
        """Whether the horizon is the run's own, so that what happens within it will happen in training."""
        return self.horizon_from == "total_steps" and self.capped is None

    @property
    def whole(self) -> bool:
        """Whether the traces cover the run, or the scheduler's own length."""
        return self.horizon_from in ("total_steps", "scheduler") and self.capped is None

    @property
    def leads(self) -> bool:
        """Whether this is the first of the schedulers on its optimizer: their common traces are judged once."""
        return bool(self.groups) and self.index == min(self.wiring.together, default=self.index)

    @property
    def ends(self) -> Length | None:
        """Its length, where it is over then and does not only stop changing."""
        return self.length if self.length is not None and self.length.final else None

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Public numbers and strings of the scheduler itself."""
        return {} if self.root is None else self.root.attributes

    @property
    def plateau(self) -> Plateau | None:
        """Where the scheduler itself follows a metric: how."""
        return None if self.root is None else self.root.plateau

    @property
    def base_lrs(self) -> tuple[float, ...]:
        """The rates it scales, one per group: its own, or for a sequence those of the first part that has any."""
        if self.root is None:
            return ()
        return next((node.base_lrs for node in (self.root, *self.root.leaves()) if node.base_lrs), ())

    def late(self, group: int) -> bool:
        """Whether the group was added to the optimizer after the scheduler was built."""
        return any(group >= len(node.base_lrs) for node in self.nodes() if node.base_lrs)

    def of(self, *groups: int) -> Schedule:
        """The schedule with only some of its groups, as the subject of a finding about those."""
        return replace(self, groups=tuple(group for group in self.groups if group.group in groups))

    def nodes(self) -> Iterator[SchedulerNode]:
        """The scheduler, then every one nested in it."""
        return iter(()) if self.root is None else self.root.walk()
