"""A scheduler that should anneal leaves the rate constant, makes it negative or not a number, or cannot take a step.

A negative rate is gradient ascent: `LambdaLR(lambda t: 1 - t / n)` crosses zero at step n and goes on. A constant rate
comes from `eta_min` equal to the rate, `T_max=0.5` or a power of 0; an impossible argument such as `T_max=0` raises
only at the first step; a fractional power of a negative number is complex. Negative rates and those that are no number
are judged within the declared run, or the scheduler's own length; in the first twentieth of a run whose epochs are not
declared they are *info*, since the scheduler may count epochs.

What to do: clamp the factor (`max(0.0, ...)`), give `T_max` in whole steps, choose `eta_min` well below the rate.

Silent for `ConstantLR`, a factor of exactly 1, functions that return 1, and anything data-driven. A step decay whose
first step lies beyond the run is *info*.

Sources: https://github.com/huggingface/transformers/issues/324 (negative rate after the last step),
https://github.com/AmirmohammadRostami/KeywordsSpotting-EfficientNet-A0/issues/1 (`eta_min` equal to the rate)
"""

from collections.abc import Iterator
from math import isclose

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.text.wording import rate

NEUTRAL = {"gamma": 1.0, "factor": 1.0}
FALLING = ("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "PolynomialLR", "ExponentialLR", "LinearLR")
STEPPED = ("StepLR", "MultiStepLR")


@rule("LR409", severity="error", confidence="high", needs=("optimizer", "schedule"))
def constant_or_negative_schedule(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        if schedule.position.start > 1 and not optimizer.state_size:
            continue  # `last-epoch-without-state`: it was advanced while it was built
        groups = optimizer.groups
        said = _raises(schedule) or _negative(schedule, groups) or _constant(schedule)
        if said:
            text, severity, help = said
            yield Finding(schedule, text, data={"horizon": schedule.horizon}, help=help, severity=severity)


def _raises(schedule):
    """Torch's own class that raises at a step, for no reason of its length or of a missing group."""
    error, bad = schedule.error, schedule.non_finite
    if bad is not None and schedule.covers_run:
        text = f"group {bad.group}: the rate is not a number from {schedule.unit} {bad.step} on"
        return _unless_in_epochs(schedule, bad.step, text, "keep the base of a fractional power at 0 or above")
    if error is None or not schedule.qualified.startswith("torch.") or error.type not in CRASHES:
        return None
    counts = {size for node in schedule.nodes() for name, size in node.lists.items() if name != "_last_lr"}
    if counts - {len(schedule.groups)}:
        return None
    arguments = ", ".join(f"{k}={v}" for k, v in schedule.attributes.items() if k in ARGUMENTS)
    text = f"{schedule.class_name}({arguments}) raises {error.type} at step {error.step}: {error.message}"
    return text, "error", "give it arguments it can step with"


CRASHES = ("ZeroDivisionError", "TypeError")
ARGUMENTS = ("T_max", "eta_min", "total_iters", "step_size", "gamma", "power", "start_factor", "end_factor")


def _negative(schedule, groups):
    for scheduled in schedule.groups if schedule.covers_run else ():
        if scheduled.lr is not None and (step := scheduled.lr.negative_from) is not None:
            text = f"{groups[scheduled.group].label}: the rate is negative from {schedule.unit} {step} of "
            text += f"{schedule.horizon} on, down to {rate(scheduled.lr.floor)}: steps then go uphill"
            return _unless_in_epochs(schedule, step, text, "clamp the factor at 0: `max(0.0, ...)`")
    return None


def _unless_in_epochs(schedule, step, text, help):
    """So early in a run whose epochs are not declared, the scheduler more likely counts epochs."""
    if schedule.clock.source == "assumed" and 20 * step < schedule.horizon:
        return f"{text}, unless it is stepped once per epoch", "info", "declare steps_per_epoch"
    return text, "error", help


def _constant(schedule):
    traces = [group.lr for group in schedule.groups if group.lr]
    attributes = schedule.attributes
    if not schedule.covers_run or (schedule.horizon or 0) < 3 or schedule.error is not None or not traces:
        return None
    if not all(trace.constant(1e-12) and trace.peak > 0 for trace in traces):
        return None
    if any(_alike(attributes.get(name), value) for name, value in NEUTRAL.items()):
        return None
    if _alike(attributes.get("start_factor"), attributes.get("end_factor")):
        return None
    if schedule.class_name in STEPPED:
        text = f"{schedule.class_name} changes nothing in {schedule.horizon} {schedule.unit}s: it begins after that"
        return text, "info", "check whether it counts epochs or optimizer steps"
    if schedule.class_name not in FALLING:
        return None
    arguments = ", ".join(f"{k}={v}" for k, v in attributes.items() if k in ARGUMENTS)
    text = f"{schedule.class_name} leaves the rate constant at {rate(traces[0].peak)} ({arguments})"
    return text, "error", "choose eta_min below the rate and T_max in whole steps"


def _alike(value, other):
    """The same number but for rounding. A class of the user's may hold anything under these names."""
    return isinstance(value, int | float) and isinstance(other, int | float) and isclose(value, other)
