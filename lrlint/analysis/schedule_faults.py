"""What is wrong with the course of a schedule, in the words of its findings."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose
from typing import TYPE_CHECKING, Any, Literal

from lrlint.analysis.schedule_length import (
    Ending,
    counted_in_steps,
    ending,
    explained,
    gone_per_batch,
    lead,
    own_end,
    runs_out,
)
from lrlint.text.grades import Confidence, Severity
from lrlint.text.wording import rate

if TYPE_CHECKING:
    from lrlint.facts import Group, Schedule, Training
    from lrlint.facts.schedule import GroupSchedule, Trace

#: (message, severity, what to do)
Fault = tuple[str, Severity, str]

_NEUTRAL = {"gamma": 1.0, "factor": 1.0}
_FALLING = ("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "PolynomialLR", "ExponentialLR", "LinearLR")
_STEPPED = ("StepLR", "MultiStepLR")
_CRASHES = ("ZeroDivisionError", "TypeError")
_ARGUMENTS = ("T_max", "eta_min", "total_iters", "step_size", "gamma", "power", "start_factor", "end_factor")
#: Classes whose rate follows a curve from the first step on, starting at the base rate.
_CURVES = ("CosineAnnealingLR", "PolynomialLR", "ExponentialLR")
#: A schedule shorter than this share of the run has ended early.
_EARLY = 0.8


def raising(schedule: Schedule) -> Fault | None:
    """Torch's own class that raises at a step, for no reason of its length or of a missing group."""
    error, bad = schedule.error, schedule.non_finite
    if bad is not None and schedule.covers_run:
        text = f"group {bad.group}: the rate is not a number from {schedule.unit} {bad.step} on"
        return _unless_in_epochs(schedule, bad.step, text, "keep the base of a fractional power at 0 or above")
    if error is None or not schedule.qualified.startswith("torch.") or error.type not in _CRASHES:
        return None
    counts = {size for node in schedule.nodes() for name, size in node.lists.items() if name != "_last_lr"}
    if counts - {len(schedule.groups)}:
        return None
    text = f"{schedule.class_name}({_arguments(schedule)}) raises {error.type} at step {error.step}: {error.message}"
    return text, "error", "give it arguments it can step with"


def negative(schedule: Schedule, groups: Sequence[Group]) -> Fault | None:
    """A rate below 0, from which on steps go uphill."""
    for scheduled in schedule.groups if schedule.covers_run else ():
        if scheduled.lr is not None and (step := scheduled.lr.negative_from) is not None:
            text = f"{groups[scheduled.group].label}: the rate is negative from {schedule.unit} {step} of "
            text += f"{schedule.horizon} on, down to {rate(scheduled.lr.floor)}: steps then go uphill"
            return _unless_in_epochs(schedule, step, text, "clamp the factor at 0: `max(0.0, ...)`")
    return None


def _unless_in_epochs(schedule: Schedule, step: int, text: str, help: str) -> Fault:
    """So early in a run whose epochs are not declared, the scheduler more likely counts epochs."""
    if schedule.clock.source == "assumed" and 20 * step < (schedule.horizon or 0):
        return f"{text}, unless it is stepped once per epoch", "info", "declare steps_per_epoch"
    return text, "error", help


def constant(schedule: Schedule) -> Fault | None:
    """A class of torch's that is there to change the rate, and leaves it."""
    traces = [group.lr for group in schedule.groups if group.lr]
    attributes = schedule.attributes
    if not schedule.covers_run or (schedule.horizon or 0) < 3 or schedule.error is not None or not traces:
        return None
    if not all(trace.constant(1e-12) and trace.peak > 0 for trace in traces):
        return None
    if any(_alike(attributes.get(name), value) for name, value in _NEUTRAL.items()):
        return None
    if _alike(attributes.get("start_factor"), attributes.get("end_factor")):
        return None
    if schedule.class_name in _STEPPED:
        text = f"{schedule.class_name} changes nothing in {schedule.horizon} {schedule.unit}s: it begins after that"
        return text, "info", "check whether it counts epochs or optimizer steps"
    if schedule.class_name not in _FALLING:
        return None
    text = f"{schedule.class_name} leaves the rate constant at {rate(traces[0].peak)} ({_arguments(schedule)})"
    return text, "error", "choose eta_min below the rate and T_max in whole steps"


def _arguments(schedule: Schedule) -> str:
    return ", ".join(f"{key}={value}" for key, value in schedule.attributes.items() if key in _ARGUMENTS)


def _alike(value: Any, other: Any) -> bool:
    """The same number but for rounding. A class of the user's may hold anything under these names."""
    return isinstance(value, int | float) and isinstance(other, int | float) and isclose(value, other)


def built_late(schedule: Schedule) -> str:
    """What a ``last_epoch`` does that was given on a fresh optimizer; "" where none was."""
    at = schedule.position.constructed_at
    if at is None:
        return ""
    if at == 0:
        return f"{schedule.class_name} was built with last_epoch=0 on a fresh optimizer: it begins at its second step"
    first = schedule.groups[0].lr
    base = (schedule.base_lrs or (0.0,))[0]
    if schedule.class_name in _CURVES and first is not None and base and abs(first.first / base - 1) < 1e-9:
        return (
            f"{schedule.class_name} was built with last_epoch={at} on a fresh optimizer: the rate is still the full "
            f"{rate(base)}, not where the curve is by then"
        )
    return ""


def stale_base(schedule: Schedule, scheduled: GroupSchedule, label: str) -> str:
    """How a group's ``initial_lr`` is not the rate that it was given; "" where it is."""
    given, initial = scheduled.before.get("lr"), scheduled.before.get("initial_lr")
    if given and initial is not None and abs(initial - given) > 1e-6 * given:
        return f"{label} has lr {rate(given)}, but {schedule.class_name} scales its initial_lr {rate(initial)}"
    bases, start = schedule.base_lrs, schedule.position.start
    if scheduled.lr is None or scheduled.group >= len(bases) or start or schedule.class_name not in _CURVES:
        return ""
    base, first = bases[scheduled.group], scheduled.lr.first
    last = dict(enumerate(schedule.position.last_lrs))
    if scheduled.group in last and abs(last[scheduled.group] - base) <= 1e-6 * base:
        return ""  # the rate was changed after the scheduler was built
    if abs(first - base) > 1e-6 * max(first, base):
        return f"{label} has lr {rate(first)}, but {schedule.class_name} scales the initial_lr {rate(base)} it found"
    return ""


def _early(schedule: Schedule, end: Ending, training: Training) -> str:
    """Where a schedule is over before its run is, and what the rate is from then on."""
    named = ""
    if schedule.ends is not None:
        named = f" ({schedule.ends})"
        then = f" and then stays at {rate(end.low)}"
    else:
        then = f": no more than {rate(end.low)} is left"
    if end.rises:
        then = f" and then rises again to {rate(end.after)}"
    where = f"{schedule.class_name} ends at {schedule.unit} {end.step:.0f} of {schedule.horizon}{named}"
    return f"{where}{then}{_cause(schedule, end.step, training)}"


def _late(schedule: Schedule, end: float | None, training: Training) -> str:
    """It is at least twice as long as the run, and the rate is still above half of its peak at the end."""
    trace, horizon = lead(schedule), schedule.horizon or 0
    if end is None or trace is None or end < 2 * horizon or trace.last <= 0.5 * trace.peak:
        return ""
    named = f"{schedule.class_name} ({schedule.length})"
    text = f"the run ends after {horizon / end:.0%} of {named}, with the rate still at {rate(trace.last)}"
    return text + _cause(schedule, end, training)


def _cause(schedule: Schedule, end: float | None, training: Training) -> str:
    """Why it ends there, as the end of a message; "" where nothing explains it."""
    text = explained(schedule, end, training) if end is not None else ""
    return f"; {text}" if text else ""


def length_fault(
    schedule: Schedule, training: Training
) -> tuple[str, Severity | Literal[""], Confidence | Literal[""]]:
    """(message, severity, confidence); an empty message where the lengths agree."""
    name, error, end = schedule.class_name, schedule.error, own_end(schedule)
    if counted_in_steps(schedule, training):
        text = (
            f"{name}: {schedule.length} counts the run's optimizer steps, but the training loop steps it once per epoch"
        )
        seen = schedule.clock.source == "rehearsal"
        return f"{text}: it hardly begins", "error" if seen else "", "high" if seen else ""
    if (left := gone_per_batch(schedule, training)) is not None:
        text = f"{name} is stepped with every one of {training.total_steps} optimizer steps: {left:.0e} of the rate is left"
        return f"{text} at the end, as if its steps were meant to be epochs", "warning", "high"
    if schedule.unit == "epoch" and schedule.clock.source == "assumed" and end:
        text = f"{name} is over after {end:.0f} of its own steps, the run has {training.total_steps}"
        return f"{text}: right only if it is stepped once per epoch (declare steps_per_epoch)", "info", "low"
    if (short := runs_out(schedule)) is not None:
        followed = f" (followed to step {schedule.capped})" if schedule.capped is not None else ""
        text = (
            f"{short[0]} has total_steps={short[1]}, the run {schedule.horizon} steps: it raises at step {short[2]:.0f}"
        )
        return text + followed + _cause(schedule, short[2], training), "error", "high"
    if not schedule.has_declared_horizon:
        return "", "", ""
    if error is not None:
        past = end is not None and error.step >= end
        text = f"{name} raises at step {error.step} of {schedule.horizon}: {error.message}"
        return (text + _cause(schedule, end, training), "error", "high") if past else ("", "", "")
    found = ending(schedule)
    if found is None or found.step >= _EARLY * (schedule.horizon or 0):
        return _late(schedule, end, training), "", ""
    if schedule.clock.source == "assumed":
        if end is None and schedule.kinds == ("decay",):
            return "", "", ""  # a decay without a length is mostly stepped once per epoch
        if 20 * found.step <= (schedule.horizon or 0):
            return f"{_early(schedule, found, training)}, unless it is stepped once per epoch", "info", "low"
    return _early(schedule, found, training), "", ""


def late_warmup(trace: Trace) -> str:
    """A first step at the full rate, before the warm-up begins; "" where there is none."""
    first, second, later = trace.first, trace.at(trace.steps[0] + 1), trace.values[2:]
    if first >= 0.9 * trace.peak and second <= 0.2 * trace.peak and later and max(later) >= 0.9 * trace.peak:
        return f"the first step is taken at {rate(first)}, the warm-up begins after it at {rate(second)}"
    return ""
