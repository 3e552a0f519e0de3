"""How long a schedule is beside the run, and what an earlier run left in an optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lrlint.facts.resume import OptionChange
from lrlint.facts.schedule import NEGLIGIBLE_SHARE

if TYPE_CHECKING:
    from lrlint.facts.optimizers import Group, Optimizer
    from lrlint.facts.schedule import Schedule, Trace
    from lrlint.facts.setup import Setup, Training


#: A rate that rises by no more than this from one step to the next does not jump.
JUMP = 1.25


@dataclass(frozen=True, slots=True)
class Ending:
    """A schedule is over at ``step``, where the rate is ``low``; afterwards it stays there or climbs to ``after``."""

    step: float
    low: float
    after: float
    rises: bool


@dataclass(frozen=True, slots=True)
class CutOff:
    """A warm-up of ``length`` steps that ends after ``taken``, at the share ``reached`` of the rate it leads to."""

    length: int
    taken: int
    reached: float


def cut_off(schedule: Schedule) -> CutOff | None:
    """A linear warm-up in a sequence that the next scheduler takes over from early, with a jump of the rate."""
    traces = _moving(schedule)
    for node in schedule.nodes():
        for child, (begin, end) in zip(node.children, pairwise([0, *node.begins]), strict=False):
            keys = ("total_iters", "start_factor", "end_factor")
            length, low, high = (child.attributes.get(key, 0) for key in keys)
            if low >= high or length - (end - begin) <= 1:
                continue
            reached, step = (low + (high - low) * (end - begin) / length) / high, round(end * schedule.period)
            rises = [t.at(step) / t.at(step - 1) for t in traces if step <= t.steps[-1] and t.at(step - 1) > 0]
            # The whole warm-up would have led up to where the next one begins.
            if any(JUMP < rise <= JUMP / reached for rise in rises) and JUMP * reached < 1:
                return CutOff(length, end - begin, reached)
    return None


def lead(schedule: Schedule) -> Trace | None:
    """The rate of the fastest group that moves at all."""
    return max(_moving(schedule), key=lambda trace: trace.peak, default=None)


def _moving(schedule: Schedule) -> list[Trace]:
    return [group.lr for group in schedule.groups if group.lr is not None and group.lr.peak > 0]


def own_end(schedule: Schedule) -> float | None:
    """The step at which the schedule is over by its own arguments, in the unit of its horizon."""
    return schedule.ends.steps * schedule.period if schedule.ends is not None else None


def ending(schedule: Schedule) -> Ending | None:
    """Where the schedule ends within its traces: by its own length, or because the rate is gone.

    A rate is gone at 0.1 % of its peak if it stays there or comes back; a decay that keeps falling has ended where it
    is gone if more than half of the run is left then, and it falls with every optimizer step (one per epoch was made for its
    epochs).
    None where the schedule does not end, or has no end to speak of: constant, a warm-up alone, steps, cycles.
    """
    trace, end, kinds = lead(schedule), own_end(schedule), schedule.kinds
    if trace is None or set(kinds) <= {"constant", "warmup", "plateau"}:
        return None
    if end is None and kinds in (("lambda",), ("other",), ("decay",)):
        points = zip(trace.steps, trace.values, strict=True)
        gone = [step for step, value in points if step > trace.peak_step and value <= NEGLIGIBLE_SHARE * trace.peak]
        if kinds != ("decay",):
            end = next((step for step in gone if trace.last >= 0.99 * trace.at(step)), None)
        elif gone and schedule.period == 1 and 2 * gone[0] < trace.steps[-1]:
            end = gone[0]
    if end is None or end >= trace.steps[-1] or trace.at(end) >= 0.99 * trace.peak:
        return None
    low = trace.at(end)
    after = max(value for step, value in zip(trace.steps, trace.values, strict=True) if step >= end)
    rises = after > max(2 * low, 0.01 * trace.peak)
    return Ending(end, low, after, rises) if rises or abs(trace.last - low) <= 0.02 * trace.peak else None


def gone_per_batch(schedule: Schedule, training: Training) -> float | None:
    """What share of the peak is left at the end of the run, where a decay without a length was seen to be stepped with
    every optimizer step, of which an epoch has many, and less than a hundred-thousandth is left.
    """
    trace, clock = lead(schedule), schedule.clock
    if trace is None or clock.source != "rehearsal" or clock.interval != "step":
        return None
    if schedule.kinds != ("decay",) or own_end(schedule) is not None or not schedule.has_declared_horizon:
        return None
    left = trace.last / trace.peak
    return left if (training.steps_per_epoch or 0) > 1 and left < 1e-5 else None


def runs_out(schedule: Schedule) -> tuple[str, int, float] | None:
    """(class, its length, the step at which it raises) of a OneCycleLR that is shorter than the declared run.

    Told by its arguments: a long run is followed for part of the way only.
    """
    if schedule.horizon_from != "total_steps" or schedule.unit != "step" or schedule.error is not None:
        return None
    if schedule.class_name != "OneCycleLR" or (schedule.clock.source == "assumed" and schedule.period != 1):
        return None
    total = schedule.attributes.get("total_steps")
    if not isinstance(total, int):
        return None
    raises = (total - schedule.position.start + 1) * schedule.period
    return (schedule.class_name, total, raises) if raises <= (schedule.horizon or 0) else None


def counted_in_steps(schedule: Schedule, training: Training) -> bool:
    """As long as the run in optimizer steps, and stepped once per epoch."""
    per_epoch = schedule.clock.source in ("source", "rehearsal") and schedule.clock.interval == "epoch"
    many = (training.steps_per_epoch or 2) > 1 and (training.total_steps or 0) >= 40
    return per_epoch and many and schedule.ends is not None and schedule.ends.steps == training.total_steps


def explained(schedule: Schedule, end: float, training: Training) -> str:
    """What the factor between the schedule's end and the run points to, in words; "" where it is no telling number."""
    ratio = max(end / schedule.horizon, schedule.horizon / end) if schedule.horizon and end > 0 else 0.0
    if schedule.clock.calls > 1:
        return f"accelerate steps it {schedule.clock.calls} times per optimizer step"
    for name in ("world_size", "accumulation", "steps_per_epoch"):
        value = getattr(training, name)
        if value and value > 1 and abs(ratio / value - 1) <= 0.02:
            return f"the factor {ratio:.3g} is the declared {name}"
    power = next((2**k for k in range(1, 11) if abs(ratio / 2**k - 1) <= 0.02), None)
    return f"a factor of {power}: processes, or accumulation steps?" if power else ""


def replaced_by_target(setup: Setup) -> Iterator[tuple[Optimizer, list[OptionChange]]]:
    """Optimizers whose state the target has loaded, with the options of groups that it replaced by the saved ones."""
    kinds = {schedule.optimizer: schedule.kinds for schedule in setup.schedules}
    for optimizer in setup.optimizers:
        cycled = "cycle" in kinds.get(optimizer.index, ())
        changes = [change for group in optimizer.groups for change in _replaced(optimizer, group, cycled)]
        if optimizer.state_size and changes:
            yield optimizer, changes


def _replaced(optimizer: Optimizer, group: Group, cycled: bool) -> Iterator[OptionChange]:
    """Options that the constructor set for the group and that it no longer has: a loaded state replaced them.

    Only options that the user did not write on this very group, and only for an optimizer whose construction was seen.
    ``cycled``: a scheduler rewrites rate and momentum.
    """
    if group.written is None:
        return
    for option in ("lr", "weight_decay", "eps", *(() if cycled else ("betas", "momentum"))):
        old, new = optimizer.defaults.get(option), group.options.get(option)
        if option == "lr":
            new = None if cycled else group.options.get("initial_lr", new)
        if option in group.written or isinstance(new, dict) or None in (old, new):
            continue
        before, after = _plain(old), _plain(new)
        if before != after:
            yield OptionChange(group.index, option, before, after)


def _plain(value: Any) -> Any:
    return [float(item) for item in value] if isinstance(value, (list, tuple)) else float(value)
