"""How often a scheduler is stepped, and for how long it is followed.

A factory shows no training loop, so the clock is taken from what was declared, else from what the classes and their
arguments say, else assumed: once per optimizer step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lrlint.facts import Training
from lrlint.facts.schedule import ClockSource, HorizonSource, Interval, Unit
from lrlint.facts.scheduler import Length
from lrlint.inspection.schedules import kinds

#: Followed without a declared run or a length of the scheduler's own.
DEFAULT_HORIZON = 1000
#: Followed so many times further where the rates still rise by then: Noam's warm-up takes 4000 steps.
FURTHER = 10
#: A run so many times longer than an epoch-style scheduler is more likely a run of many epochs than a slip.
_MANY = 20


@dataclass(frozen=True)
class Timing:
    """``period`` optimizer steps pass per scheduler step; ``calls`` scheduler steps are made at once.

    ``unit`` is what ``horizon`` counts: optimizer steps, or epochs where their length is not known (period 1 then).
    """

    unit: Unit
    period: int
    calls: int
    horizon: int
    source: ClockSource
    horizon_from: HorizonSource
    interval: Interval


def clock_of(
    scheduler: Any,
    config: Mapping[str, Any],
    training: Training,
    calls: int,
    loop: Interval | None,
    observed: Interval | None = None,
) -> Timing:
    """The clock of one scheduler; ``calls`` is how many steps its wrapper makes of one call, ``loop`` the interval at
    which the training loop steps it, where one was read, ``observed`` where a rehearsal has seen it.
    """
    interval, source = (observed, "rehearsal") if observed else _interval(scheduler, config, training, loop)
    frequency = config.get("frequency")
    every = frequency if isinstance(frequency, int) and frequency > 0 else 1
    per_epoch = epoch_length(training)
    unit: Unit = "epoch" if interval == "epoch" and not per_epoch else "step"
    period = per_epoch * every if interval == "epoch" and per_epoch else every
    total = _total(training, unit)
    if total is not None and not (source == "assumed" and unit == "epoch"):
        return Timing(unit, period, calls, total, source, "total_steps", interval)
    length = kinds.length_of(scheduler)
    if length is None or length.steps < 1:
        return Timing(unit, period, calls, DEFAULT_HORIZON * period, source, "default", interval)
    steps = length.steps if length.final else max(length.steps + 1, math.ceil(1.5 * length.steps))
    return Timing(unit, period, calls, math.ceil(steps * period / calls), source, "scheduler", interval)


def in_epochs(clock: Timing, training: Training) -> Timing | None:
    """The other reading of a clock that was only assumed to count optimizer steps, where the epochs are known."""
    per_epoch = epoch_length(training)
    if clock.source != "assumed" or clock.unit != "step" or not per_epoch or per_epoch < 2:
        return None
    return replace(clock, period=per_epoch, interval="epoch", source="course")


def _total(training: Training, unit: Unit) -> int | None:
    if unit == "step":
        return training.total_steps
    epochs = training.options.get("max_epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else None


def _interval(
    scheduler: Any, config: Mapping[str, Any], training: Training, loop: Interval | None
) -> tuple[Interval, ClockSource]:
    """(``step`` or ``epoch``, what tells)."""
    options = training.options
    for declared in (config.get("interval"), options.get("interval"), options.get("scheduler_interval")):
        if declared in ("step", "epoch"):
            return declared, "lightning" if config.get("framework") == "lightning" else "declared"
    if config.get("framework") == "lightning":
        return "epoch", "lightning"  # what Lightning does without a word
    if kinds.counts_steps(scheduler):
        return "step", "class"
    if kinds.is_timm(scheduler) and isinstance(in_epochs := getattr(scheduler, "t_in_epochs", None), bool):
        return ("epoch" if in_epochs else "step"), "class"
    if loop is not None:
        return loop, "source"
    return _inferred(scheduler, training)


def _inferred(scheduler: Any, training: Training) -> tuple[Interval, ClockSource]:
    """The clock that the scheduler's own length fits, then what a factor function calls its argument."""
    length, total, per_epoch = kinds.length_of(scheduler), training.total_steps, epoch_length(training)
    in_epochs = per_epoch is not None and per_epoch > 1
    if length is not None and length.steps > 0 and total:
        if per_epoch and in_epochs:
            warms_up = any(kinds.kind_of(leaf) == "warmup" for leaf in kinds.leaves(scheduler))
            return ("epoch" if _fits_epochs(length, total, per_epoch, warms_up) else "step"), "length"
        if length.final and total >= _MANY * length.steps:
            return "epoch", "assumed"
    names = {kinds.counter_name(f) for leaf in kinds.leaves(scheduler) for f in kinds.lambdas_of(leaf)}
    if in_epochs and names and all("epoch" in name for name in names):
        return "epoch", "argument"
    return "step", "assumed"


def _fits_epochs(length: Length, total: int, per_epoch: int, warms_up: bool) -> bool:
    """A whole schedule is as long as the run, in its own clock; a cycle only fits into it, a warm-up into half of it."""
    epochs = max(total / per_epoch, 1.0)
    if not length.final:
        return length.steps <= (0.5 if warms_up else 1.1) * epochs
    return abs(math.log(length.steps / epochs)) < abs(math.log(length.steps / total))


def epoch_length(training: Training) -> int | None:
    """Optimizer steps per epoch, as declared or from the number of epochs."""
    epochs, total = training.options.get("max_epochs"), training.total_steps
    if training.steps_per_epoch or not total or not isinstance(epochs, int) or epochs < 1:
        return training.steps_per_epoch
    return math.ceil(total / epochs)


def calls_per_step(config: Mapping[str, Any], training: Training) -> int:
    """Steps that accelerate's wrapper makes of one call: one per process, unless batches are split between them.

    Source: ``AcceleratedScheduler.step`` (accelerate/scheduler.py).
    """
    if config.get("framework") != "accelerate" or config.get("split_batches"):
        return 1
    if training.world_size:
        return training.world_size
    from accelerate.state import AcceleratorState

    return int(AcceleratorState().num_processes) if AcceleratorState._shared_state else 1
