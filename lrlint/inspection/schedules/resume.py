"""What loading a checkpoint changes: options of the groups, the scheduler's base rates, the order of the state.

``load_state_dict`` replaces every option of every group by the saved one, so that the rate, the decay and the betas of
the new run are gone without a word. Everything here happens on stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lrlint.errors import UsageError
from lrlint.facts.resume import ArgumentChange, OptionChange, ResumedOptimizer, ResumedScheduler, ResumeFacts
from lrlint.inspection.schedules import kinds
from lrlint.inspection.schedules.checkpoint import read
from lrlint.inspection.schedules.copying import Isolation, Uncopyable, quiet
from lrlint.inspection.schedules.scheduler_facts import number, rates_of
from lrlint.inspection.schedules.stepping import stepper

if TYPE_CHECKING:
    from lrlint.targets.load import LiveTarget

#: Options compared as they are; rates are compared by what they decay from.
OPTIONS = ("weight_decay", "betas", "momentum", "eps", "decoupled_weight_decay")
#: Arguments of torch's schedulers that their state brings along and that no step changes.
ARGUMENTS = (
    *("T_max", "eta_min", "T_0", "T_mult", "step_size", "gamma", "milestones", "total_iters", "start_factor"),
    *("end_factor", "factor", "power", "total_steps", "total_size", "step_ratio", "mode", "_milestones"),
)


def resume(built: LiveTarget, path: str | Path) -> ResumeFacts:
    """What loading the checkpoint does to the target. ``path`` is what `checkpoint.read` takes.

    Raises UsageError as `checkpoint.read` does.
    """
    optimizers, schedulers = read(Path(path))
    records = []
    for index, (optimizer, saved) in enumerate(zip(built.optimizers.values(), optimizers, strict=False)):
        live = kinds.unwrap_optimizer(optimizer)
        try:
            records.append(_optimizer(built, index, live, saved, schedulers))
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            text = f"the checkpoint {path} holds what no optimizer saves ({type(error).__name__}: {error})"
            raise UsageError(text, "save optimizer.state_dict()") from error
    return ResumeFacts(Path(path).name, tuple(records))


def _optimizer(
    built: LiveTarget, index: int, optimizer: Any, saved: Mapping[str, Any], schedulers: Sequence[dict[str, Any]]
) -> ResumedOptimizer:
    groups, loaded = optimizer.param_groups, saved["param_groups"]
    counts = [len(group["params"]) for group in groups]
    saved_counts = [len(group["params"]) for group in loaded]
    if counts != saved_counts:
        reason = f"the checkpoint's groups hold {saved_counts} parameters, the optimizer's {counts}"
        return ResumedOptimizer(index, refused=reason)
    changes: list[OptionChange] = []
    for position, (group, new) in enumerate(zip(groups, loaded, strict=True)):
        before = built.recording.before(optimizer, position)
        changes += [*_rate(position, group, before, new), *_others(position, group, before, new)]
    shapes = _misplaced(groups, saved)
    return ResumedOptimizer(
        index,
        changes=tuple(changes),
        names=_renamed(groups, saved),
        shapes=shapes,
        parameters=sum(counts) if shapes else 0,
        scheduler=_scheduler(built, optimizer, saved, schedulers),
    )


def _rate(
    index: int, group: Mapping[str, Any], before: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[OptionChange]:
    """A rate that has decayed from the configured one is the progress of the run; from another one it is a change."""
    scheduled = "initial_lr" in group and "initial_lr" in new
    configured = _plain(group["initial_lr"] if scheduled else before.get("lr", group.get("lr")))
    origin = _plain(new.get("initial_lr", new.get("lr")))
    if configured is not None and origin is not None and not _equal(configured, origin):
        yield OptionChange(index, "lr", configured, _plain(new.get("lr")), origin)


def _others(
    index: int, group: Mapping[str, Any], before: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[OptionChange]:
    configured = {**group, **before}
    cycled = ("betas", "momentum") if "max_momentum" in group or "max_momentum" in new else ()
    for option in OPTIONS:
        old_value, new_value = _plain(configured.get(option)), _plain(new.get(option))
        if option not in cycled and None not in (old_value, new_value) and not _equal(old_value, new_value):
            yield OptionChange(index, option, old_value, new_value)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool) else number(value)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_equal(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second))
    return bool(first == second)


def _misplaced(groups: Sequence[Mapping[str, Any]], saved: Mapping[str, Any]) -> int:
    """How many saved states land on a parameter of another shape: torch goes by position alone."""
    present = [parameter for group in groups for parameter in group["params"]]
    identities = [identity for group in saved["param_groups"] for identity in group["params"]]
    shapes = 0
    for identity, parameter in zip(identities, present, strict=True):
        state = saved.get("state", {}).get(identity) or {}
        tensors = [value for value in state.values() if isinstance(value, torch.Tensor) and value.dim() > 0]
        # Factored second moments have fewer dimensions than their parameter by design.
        shapes += any(t.dim() >= parameter.dim() and t.shape != parameter.shape for t in tensors)
    return shapes


def _renamed(groups: Sequence[Mapping[str, Any]], saved: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first saved name that stands at the place of another, as (saved, present), where both have names."""
    names = [name for group in groups for name in group.get("param_names") or ()]
    old = [name for group in saved["param_groups"] for name in group.get("param_names") or ()]
    if len(names) != len(old):
        return None
    return next(((a, b) for a, b in zip(old, names, strict=True) if a != b), None)


def _scheduler(
    built: LiveTarget, optimizer: Any, saved: Mapping[str, Any], states: Sequence[dict[str, Any]]
) -> ResumedScheduler | None:
    """What the scheduler does after the load: its next step may put the old curve, or the new base rate, back."""
    for index, scheduler in enumerate(built.schedulers):
        own = kinds.optimizer_of(scheduler)
        if own is None or not kinds.same_optimizer(own, optimizer) or kinds.data_driven(scheduler):
            continue
        try:
            with quiet():
                return _after(index, scheduler, saved, states[index] if index < len(states) else None)
        except (Uncopyable, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            return None  # what cannot be stepped is told by the simulation
    return None


def _after(index: int, scheduler: Any, saved: Mapping[str, Any], state: dict[str, Any] | None) -> ResumedScheduler:
    isolation = Isolation()
    copy = isolation.copy(scheduler)
    groups = kinds.optimizer_of(copy).param_groups
    for group, new in zip(groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in new.items() if key not in ("params", "param_names")})
    if state is not None:
        copy.load_state_dict(isolation.copy(state))
    loaded = tuple(number(group.get("lr")) for group in groups)
    bases = next((rates for leaf in kinds.leaves(copy) if (rates := rates_of(leaf))), ())
    stepper(copy)(int(getattr(copy, "last_epoch", 0)) + 1)
    following = tuple(number(group.get("lr")) for group in groups)
    changes, foreign = ([], "") if state is None else _arguments(scheduler, state)
    return ResumedScheduler(index, state is not None, bases, loaded, following, tuple(changes), foreign)


def _arguments(scheduler: Any, state: Mapping[str, Any]) -> tuple[list[ArgumentChange], str]:
    """Arguments of the scheduler, and of those nested in it, that the saved state replaces; the class of the first one
    whose arguments it does not have.
    """
    changes: list[ArgumentChange] = []
    foreign = ""
    if type(scheduler).__module__.startswith("torch."):
        name = type(scheduler).__name__
        for option in ARGUMENTS:
            if not hasattr(scheduler, option):
                continue
            if option not in state:
                foreign = foreign or name
                continue
            configured, loaded = _listed(getattr(scheduler, option)), _listed(state[option])
            if None not in (configured, loaded) and not _equal(configured, loaded):
                changes.append(ArgumentChange(name, option.lstrip("_"), configured, loaded))
    inner = state.get("_schedulers")
    children = kinds.children_of(scheduler)
    if isinstance(inner, list) and len(inner) == len(children):
        for child, child_state in zip(children, inner, strict=True):
            if isinstance(child_state, Mapping):
                more, other = _arguments(child, child_state)
                changes += more
                foreign = foreign or other
    return changes, foreign


def _listed(value: Any) -> Any:
    """A number, a string or a list of numbers; milestones are kept as a counter. None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = sorted(value)
    found = _plain(value)
    return None if isinstance(found, list) and None in found else found
