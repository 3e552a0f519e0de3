"""Run schedulers on stand-ins over their horizon and record what they do to the groups."""

from __future__ import annotations

import itertools
import math
import operator
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lrlint.facts import Trace
from lrlint.facts.schedule import Failure, NonFinite
from lrlint.inspection.schedules import closed_form, kinds
from lrlint.inspection.schedules.clock import Timing
from lrlint.inspection.schedules.sampling import Course, explore

#: Group options whose course is recorded: (key in the group, index in a tuple or None, name of the trace).
_OPTIONS = (
    *(("lr", None, "lr"), ("weight_decay", None, "weight_decay"), ("momentum", None, "momentum")),
    *(("betas", 0, "betas.0"), ("betas", 1, "betas.1")),
)
#: Scheduler steps really taken cost this much at most, counted in steps × (groups + 2): under half a second.
_BUDGET = 120_000
_FLOOR = 1000
#: Evaluations of a formula over a long horizon, counted in evaluations × groups.
_EVALUATIONS = 200_000
#: Values of these types are the same as long as the object is: tensors and lists may change in place.
_IMMUTABLE = frozenset((int, float, tuple))
#: Real steps with which a formula must agree before it is believed.
_CHECKED = 48


@dataclass
class Followed:
    """What happened: traces per group (name → trace), what step() raised, and how far it went."""

    groups: list[dict[str, Trace]]
    error: Failure | None = None
    non_finite: NonFinite | None = None
    capped: int | None = None

    @property
    def rates(self) -> list[Trace]:
        """The learning rate of each group that has one."""
        return [traces["lr"] for traces in self.groups if "lr" in traces]

    @property
    def strange(self) -> bool:
        """Whether no run would be planned like this: the rate is negative, or gone in the first twentieth of it."""
        if self.error is not None or self.non_finite is not None:
            return True
        return any(rate.floor < 0 or _gone_early(rate) for rate in self.rates if rate.peak > 0)

    @property
    def rises(self) -> bool:
        """Whether a rate is at its highest when the course ends, and not before."""
        return any(rate.peak_step == rate.steps[-1] > rate.steps[0] for rate in self.rates)

    def ends_at(self, step: float) -> bool:
        """Whether the fastest rate is gone by this step, and not much earlier."""
        rate = max(self.rates, key=lambda rate: rate.peak, default=None)
        gone = rate.gone_from if rate is not None else None
        return gone is not None and 0.9 * step <= gone <= 1.1 * step + 1


def _gone_early(rate: Trace) -> bool:
    limit = rate.steps[0] + 0.05 * (rate.steps[-1] - rate.steps[0])
    return rate.gone_from is not None and rate.gone_from < limit


@dataclass
class Driver:
    """One scheduler copy with its clock. ``advance`` is one call as training makes it."""

    scheduler: Any
    clock: Timing
    start: int = 0
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._step = stepper(self.scheduler)

    def advance(self) -> None:
        for _ in range(self.clock.calls):
            self.count += 1
            self._step(self.start + self.count)


Copies = Callable[[], list[Driver]]
GroupsOf = Callable[[list[Driver]], Sequence[Mapping[str, Any]]]


def stepper(scheduler: Any) -> Callable[[int], Any]:
    """step() as training calls it; the argument is the number of the step."""
    if kinds.is_timm(scheduler):

        def both(count: int) -> None:
            scheduler.step(count)
            scheduler.step_update(count)

        return both
    if kinds.required_argument(scheduler) is not None:
        return scheduler.step  # type: ignore[no-any-return]
    return lambda count: scheduler.step()


def position(scheduler: Any) -> int:
    """How many steps the scheduler has behind it."""
    for name in ("last_epoch", "last_step", "num_steps", "_step_count"):
        value = getattr(scheduler, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return max(value - (name == "_step_count"), 0)
    return 0


class Columns:
    """The recorded options of all groups, as one row of numbers."""

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self._width = len(groups)
        self._options = [
            _Option(key, part, name, indices, [groups[index] for index in indices])
            for key, part, name in _OPTIONS
            if (indices := [i for i, group in enumerate(groups) if _number(group.get(key), part) is not None])
        ]

    def row(self) -> tuple[float, ...]:
        """The present values; an option that is no number any more reads as nan."""
        return tuple(itertools.chain.from_iterable(option.read() for option in self._options))

    def bad(self, row: tuple[float, ...]) -> int | None:
        """The first group with a value that is not finite."""
        if all(map(math.isfinite, row)):
            return None
        owners = itertools.chain.from_iterable(option.indices for option in self._options)
        return min(index for index, value in zip(owners, row, strict=True) if not math.isfinite(value))

    def traces(self, course: Course) -> list[dict[str, Trace]]:
        found: list[dict[str, Trace]] = [{} for _ in range(self._width)]
        traces = iter(course.traces())
        for option in self._options:
            for index, trace in zip(option.indices, traces):  # noqa: B905 (the next option goes on where this ended)
                found[index][option.name] = trace
        return found


@dataclass
class _Option:
    """One option of the groups that have it. What stayed since the last row is not converted again."""

    key: str
    part: int | None
    name: str
    indices: list[int]
    groups: list[Mapping[str, Any]]
    _seen: list[Any] = field(default_factory=list)
    _numbers: list[float] = field(default_factory=list)

    def read(self) -> list[float]:
        key = self.key
        present = [group.get(key) for group in self.groups]
        kinds_met = set(map(type, present))
        if kinds_met == {float}:
            return present  # type: ignore[return-value]
        same = len(self._seen) == len(present) and all(map(operator.is_, present, self._seen))
        if not same or not kinds_met <= _IMMUTABLE:
            found = (_number(value, self.part) for value in present)
            self._numbers = [math.nan if value is None else value for value in found]
            self._seen = present
        return self._numbers


def _number(value: Any, part: int | None) -> float | None:
    if part is not None:
        value = value[part] if isinstance(value, (tuple, list)) and len(value) > part else None
    if isinstance(value, torch.Tensor):
        return float(value) if value.numel() == 1 and not value.is_meta else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def follow(copies: Copies, groups_of: GroupsOf) -> Followed:
    """Follow schedulers that share an optimizer. ``copies`` makes fresh isolated drivers on a common stand-in."""
    drivers = copies()
    groups = groups_of(drivers)
    period = math.gcd(*(driver.clock.period for driver in drivers))
    horizon = max(driver.clock.horizon for driver in drivers)
    limit = max(_FLOOR, _BUDGET // (len(groups) + 2))
    needed = sum(horizon * driver.clock.calls // driver.clock.period for driver in drivers)
    if needed > limit and len(drivers) == 1:
        found = _by_formula(copies, groups_of, horizon)
        if found is not None:
            return found
    return _by_steps(drivers, groups, period, horizon, limit)


def _by_steps(
    drivers: list[Driver], groups: Sequence[Mapping[str, Any]], period: int, horizon: int, limit: int
) -> Followed:
    """Really step, until the horizon or the limit. The value set by the last call is used by no optimizer step."""
    columns = Columns(groups)
    course = Course()
    begun = drivers[0].start * drivers[0].clock.period // drivers[0].clock.calls if len(drivers) == 1 else 0
    course.add(begun, columns.row())
    taken = 0
    for step in range(begun + period, horizon + 1, period):
        due = [driver for driver in drivers if step % driver.clock.period == 0]
        if taken >= limit:
            return Followed(columns.traces(course), capped=course.steps[-1])
        try:
            for driver in due:
                driver.advance()
        except Exception as error:
            return Followed(columns.traces(course), error=Failure(step, type(error).__name__, _short(error)))
        taken += sum(driver.clock.calls for driver in due)
        if step < horizon and due:
            row = columns.row()
            if (group := columns.bad(row)) is not None:
                return Followed(columns.traces(course), non_finite=NonFinite(step, group))
            _hold(course, step, row)
            course.add(step, row)
    _hold(course, horizon, None)
    return Followed(columns.traces(course))


def _hold(course: Course, step: int, row: tuple[float, ...] | None) -> None:
    """The last values hold until the step before the next call; ``row`` are the new ones, None at the end."""
    last = course.rows[-1]
    if course.steps[-1] < step - 1 and row != last:
        course.add(step - 1, last)


def _short(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return text if len(text) <= 200 else text[:197] + "..."


def _by_formula(copies: Copies, groups_of: GroupsOf, horizon: int) -> Followed | None:
    """Evaluate the scheduler's formula where it matters; None where there is none, or real steps contradict it."""
    drivers = copies()
    (driver,) = drivers
    at = closed_form.seeker(driver.scheduler)
    if at is None:
        return None
    groups = groups_of(drivers)
    columns = Columns(groups)
    clock, begun = driver.clock, driver.start
    first = begun * clock.period // clock.calls
    last = (horizon - 1 - first) // clock.period  # calls made before the last optimizer step
    if last < 1:
        return None

    def evaluate(call: int) -> tuple[float, ...]:
        at(begun + call * clock.calls)
        return columns.row()

    try:
        if not _agrees(evaluate, copies, groups_of):
            return None
        known = closed_form.hints(driver.scheduler, begun + last * clock.calls)
        hints = {(step - begun) // clock.calls for step in known if step >= begun}
        budget = max(600, min(6000, _EVALUATIONS // max(len(groups), 1)))
        course = explore(evaluate, last, hints, budget)
        if not closed_form.known(driver.scheduler) and not _repeats(evaluate, course):
            return None
    except Exception:  # it raises within the horizon: only real steps say where
        return None
    if not all(map(math.isfinite, itertools.chain.from_iterable(course.rows))):
        return None
    course.steps = array("q", (first + call * clock.period for call in course.steps))
    return Followed(columns.traces(course))


def _repeats(evaluate: Callable[[int], tuple[float, ...]], course: Course) -> bool:
    """Whether the formula gives the same when evaluated again backwards: one that reads what it wrote does not."""
    return all(evaluate(call) == row for call, row in zip(reversed(course.steps), reversed(course.rows), strict=True))


def _agrees(
    evaluate: Callable[[int], tuple[float, ...]],
    copies: Copies,
    groups_of: GroupsOf,
) -> bool:
    """Whether the formula gives what real steps give, evaluated out of order: a counter in a closure shows."""
    drivers = copies()
    (driver,) = drivers
    columns = Columns(groups_of(drivers))
    rows = [columns.row()]
    for _ in range(_CHECKED):
        driver.advance()
        rows.append(columns.row())
    order = sorted(range(len(rows)), key=lambda index: (index % 5, -index))
    return all(
        math.isclose(real, formula, rel_tol=1e-6, abs_tol=1e-15)
        for index in order
        for real, formula in zip(rows[index], evaluate(index), strict=True)
    )
