"""What a checkpoint changes when it is loaded, in the words of findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lrlint.text.wording import count, listing, number, rate

if TYPE_CHECKING:
    from lrlint.facts import Optimizer
    from lrlint.facts.resume import ArgumentChange, OptionChange, ResumedOptimizer, ResumedScheduler


def replaced_options(changes: Sequence[OptionChange], optimizer: Optimizer) -> str:
    """Options of groups with the values that were configured and loaded: three, and how many more."""
    shown = []
    for change in changes[:3]:
        old, new = (rate(v) if isinstance(v, float) else v for v in (change.configured, change.loaded))
        shown.append(f"{change.option} {old} of {optimizer.groups[change.group].label} by {new}")
    return listing(shown) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")


def _replaced_arguments(changes: Sequence[ArgumentChange]) -> str:
    """Arguments of schedulers with the values that were configured and loaded: three."""
    return listing(f"{c.option} {_shown(c.configured)} of {c.class_name} by {_shown(c.loaded)}" for c in changes[:3])


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(number, value))
    return value if isinstance(value, str) else number(value)


def misplaced_state(record: ResumedOptimizer, name: str) -> str:
    """How saved state lands on other parameters than it was saved for; "" where it does not."""
    if record.shapes:
        text = f"the state in {name} is in another order: {count(record.shapes, 'parameter')} of "
        return f"{text}{record.parameters} would get state of another shape"
    if names := record.names:
        return f"the state in {name} is in another order: that of `{names[0]}` lands on `{names[1]}`"
    return ""


def replaced_schedule(scheduler: ResumedScheduler, name: str) -> tuple[str, str] | None:
    """Arguments of a scheduler that its loaded state replaces, or the state of another class; and what to do."""
    if scheduler.changes:
        help = "build the scheduler anew with last_epoch, or set the arguments again after the load"
        return f"loading {name} replaces {_replaced_arguments(scheduler.changes)}", help
    if scheduler.foreign:
        text = f"the scheduler state in {name} was not saved by a {scheduler.foreign}: its arguments are not in it"
        return text, "do not load the state of another scheduler class"
    return None
