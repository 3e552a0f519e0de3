"""Run schedulers on stand-ins over their horizon and record what they do to the groups."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lrlint.facts import Trace
from lrlint.inspection.schedules import kinds, seek
from lrlint.inspection.schedules.clock import Clock
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
#: Real steps with which a formula must agree before it is believed.
_CHECKED = 48


@dataclass
class Followed:
    """What happened: traces per group (name → trace), what step() raised, and how far it went."""

    groups: list[dict[str, Trace]]
    error: dict[str, Any] | None = None
    non_finite: dict[str, int] | None = None
    capped: int | None = None

    @property
    def strange(self) -> bool:
        """Whether no run would be planned like this: the rate is negative, or gone in the first twentieth of it."""
        if self.error is not None or self.non_finite is not None:
            return True
        rates = [traces["lr"] for traces in self.groups if "lr" in traces]
        return any(rate.floor < 0 or _gone_early(rate) for rate in rates if rate.peak > 0)


def _gone_early(rate: Trace) -> bool:
    limit = rate.steps[0] + 0.05 * (rate.steps[-1] - rate.steps[0])
    return any(
        rate.peak_step < step < limit and value <= 1e-3 * rate.peak
        for step, value in zip(rate.steps, rate.values, strict=True)
    )


@dataclass
class Driver:
    """One scheduler copy with its clock. ``advance`` is one call as training makes it."""

    scheduler: Any
    clock: Clock
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
        self._groups = groups
        self._cells = [
            (index, key, part, name)
            for index, group in enumerate(groups)
            for key, part, name in _OPTIONS
            if _number(group.get(key), part) is not None
        ]

    def row(self) -> tuple[float, ...]:
        """The present values; an option that is no number any more reads as nan."""
        found = (_number(self._groups[index].get(key), part) for index, key, part, _ in self._cells)
        return tuple(math.nan if value is None else value for value in found)

    def bad(self, row: tuple[float, ...]) -> int | None:
        """The first group with a value that is not finite."""
        return next((cell[0] for cell, value in zip(self._cells, row, strict=True) if not math.isfinite(value)), None)

    def traces(self, course: Course) -> list[dict[str, Trace]]:
        found: list[dict[str, Trace]] = [{} for _ in self._groups]
        for column, (index, _, _, name) in enumerate(self._cells):
            found[index][name] = course.trace(column)
        return found

    @property
    def width(self) -> int:
        return len(self._cells)


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
    course = Course(columns.width)
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
            raised = {"step": step, "type": type(error).__name__, "message": _short(error)}
            return Followed(columns.traces(course), error=raised)
        taken += sum(driver.clock.calls for driver in due)
        if step < horizon and due:
            row = columns.row()
            if (group := columns.bad(row)) is not None:
                return Followed(columns.traces(course), non_finite={"step": step, "group": group})
            _hold(course, step, row)
            course.add(step, row)
    _hold(course, horizon, None)
    return Followed(columns.traces(course))


def _hold(course: Course, step: int, row: tuple[float, ...] | None) -> None:
    """The last values hold until the step before the next call; ``row`` are the new ones, None at the end."""
    last = tuple(column[-1] for column in course.columns)
    if course.steps[-1] < step - 1 and row != last:
        course.add(step - 1, last)


def _short(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return text if len(text) <= 200 else text[:197] + "..."


def _by_formula(copies: Copies, groups_of: GroupsOf, horizon: int) -> Followed | None:
    """Evaluate the scheduler's formula where it matters; None where there is none, or real steps contradict it."""
    drivers = copies()
    (driver,) = drivers
    at = seek.seeker(driver.scheduler)
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
        known = seek.hints(driver.scheduler, begun + last * clock.calls)
        hints = {(step - begun) // clock.calls for step in known if step >= begun}
        budget = max(600, min(6000, _EVALUATIONS // max(len(groups), 1)))
        course = explore(evaluate, last, hints, budget)
    except Exception:  # it raises within the horizon: only real steps say where
        return None
    if any(not math.isfinite(value) for column in course.columns for value in column):
        return None
    course.steps = array("q", (first + call * clock.period for call in course.steps))
    return Followed(columns.traces(course))


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
