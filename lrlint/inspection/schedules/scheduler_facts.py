"""What a scheduler object says about itself, as facts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from lrlint.facts.scheduler import Floor, Lambdas, Plateau, SchedulerKind, SchedulerNode
from lrlint.inspection.schedules import closures, kinds

#: Lists that hold one entry per parameter group.
_LISTS = ("base_lrs", "lr_lambdas", "max_lrs", "min_lrs", "_last_lr", "base_momentums", "max_momentums", "base_values")
_LONGEST = 64


def number(value: Any) -> float | None:
    """A finite or infinite float of a number or one-element tensor, else None."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_meta:
        return float(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def rates_of(scheduler: Any, name: str = "base_lrs") -> tuple[float, ...]:
    """One of its per-group lists as numbers; empty where it has none."""
    found = getattr(scheduler, name, None)
    if not isinstance(found, (list, tuple)):
        return ()
    rates = [number(value) for value in found]
    return tuple(rate for rate in rates if rate is not None) if None not in rates else ()


def floor_fact(scheduler: Any) -> Floor | None:
    """The absolute rate it anneals to; of a sequence, that of the last part that has one, since this decides the end."""
    floors = [floor for leaf in kinds.leaves(scheduler) if (floor := kinds.floor_of(leaf)) is not None]
    return floors[-1] if floors else None


def kinds_of(scheduler: Any) -> tuple[SchedulerKind, ...]:
    """The kinds of the parts that compute rates, sorted."""
    return tuple(sorted({kinds.kind_of(leaf) for leaf in kinds.leaves(scheduler)}))


def node_of(scheduler: Any) -> SchedulerNode:
    """What the object tells of itself and of those nested in it."""
    return _node(scheduler, kinds.optimizer_of(scheduler))


def _node(scheduler: Any, optimizer: Any) -> SchedulerNode:
    """One scheduler of the tree; ``optimizer`` is what its parent drives."""
    cls = type(scheduler)
    own = kinds.optimizer_of(scheduler)
    return SchedulerNode(
        class_name=cls.__name__,
        qualified=f"{cls.__module__}.{cls.__qualname__}",
        attributes=_attributes(scheduler),
        lists=_lengths(scheduler) if optimizer is not None and optimizer.param_groups else {},
        base_lrs=rates_of(scheduler),
        foreign=own is not None and optimizer is not None and not kinds.same_optimizer(own, optimizer),
        lambdas=_lambdas(scheduler),
        plateau=_plateau(scheduler),
        children=tuple(_node(child, optimizer) for child in kinds.children_of(scheduler)),
        begins=tuple(kinds.begins_of(scheduler) or ()),
    )


def _attributes(scheduler: Any) -> dict[str, Any]:
    """Public numbers, strings and flags; short lists of them."""
    found: dict[str, Any] = {}
    for key, value in getattr(scheduler, "__dict__", {}).items():
        if key.startswith("_"):
            continue
        if isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
            found[key] = value
        elif key == "milestones" and len(value) <= _LONGEST:
            found[key] = sorted(value)
        elif key not in _LISTS and _short_list(value):
            found[key] = list(value)
    return found


def _short_list(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= _LONGEST:
        return False
    return all(isinstance(item, (int, float, str)) for item in value)


def _lengths(scheduler: Any) -> dict[str, int]:
    found = {name: getattr(scheduler, name, None) for name in _LISTS}
    return {name: len(value) for name, value in found.items() if isinstance(value, (list, tuple))}


def _plateau(scheduler: Any) -> Plateau | None:
    if kinds.kind_of(scheduler) != "plateau":
        return None
    mode, floors = getattr(scheduler, "mode", ""), getattr(scheduler, "min_lrs", ())
    return Plateau(
        mode=mode if isinstance(mode, str) else "",
        factor=number(getattr(scheduler, "factor", None)),
        patience=number(getattr(scheduler, "patience", None)),
        threshold=number(getattr(scheduler, "threshold", None)),
        min_lrs=tuple(map(_floor, floors)) if isinstance(floors, (list, tuple)) else (),
        default_min_lr=_floor(getattr(scheduler, "default_min_lr", None)),
    )


def _floor(value: Any) -> float | str | None:
    return value if isinstance(value, str) else number(value)


def _lambdas(scheduler: Any) -> Lambdas | None:
    functions = kinds.lambdas_of(scheduler)
    if not functions:
        return None
    codes = [kinds.underlying(function) for function in functions]
    shared = closures.shared_variables(functions)
    return Lambdas(
        count=len(functions),
        distinct=len({id(function) for function in functions}),
        arguments=tuple(sorted({name for function in functions if (name := kinds.counter_name(function))})),
        names=tuple(sorted({code.__name__ for code in codes if code is not None})),
        modules=tuple(sorted({code.__module__ for code in codes if code is not None and code.__module__})),
        shared=shared.names,
        loop=shared.loop,
        source=shared.source,
    )


def constructed_at(scheduler: Any) -> int | None:
    """The ``last_epoch`` given to the constructor of one of torch's own schedulers, where it was not -1."""
    if not isinstance(scheduler, LRScheduler) or type(scheduler).step is not LRScheduler.step:
        return None
    given = scheduler.last_epoch - getattr(scheduler, "_step_count", scheduler.last_epoch + 1)
    return given if given >= 0 else None


def before_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The numeric options of a group as it was before any scheduler, for ``GroupSchedule.before``."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if (rate := number(value)) is not None:
            found[key] = rate
        elif isinstance(value, (list, tuple)) and all(number(item) is not None for item in value):
            found[key] = [number(item) for item in value]
    return found
