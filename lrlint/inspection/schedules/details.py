"""What a scheduler object says about itself, as plain data: the ``details`` of a Schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from lrlint.inspection.schedules import closures, kinds

#: Lists that hold one entry per parameter group.
_LISTS = ("base_lrs", "lr_lambdas", "max_lrs", "min_lrs", "_last_lr", "base_momentums", "max_momentums", "base_values")
_LONGEST = 64


def number(value: Any) -> float | None:
    """A finite or infinite float of a number or one-element tensor, else None."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_meta:
        return float(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def rates_of(scheduler: Any, name: str = "base_lrs") -> list[float] | None:
    """One of its per-group lists as numbers; None where it has none."""
    values = getattr(scheduler, name, None)
    if not isinstance(values, (list, tuple)):
        return None
    rates = [number(value) for value in values]
    return [rate for rate in rates if rate is not None] if None not in rates else None


def details_of(scheduler: Any) -> dict[str, Any]:
    """The part of ``Schedule.details`` that the object alone tells, with its children's."""
    found = node_of(scheduler, kinds.optimizer_of(scheduler))
    found["shape"] = sorted({kinds.shape_of(leaf) for leaf in kinds.leaves(scheduler)})
    found["per_step"] = kinds.counts_steps(scheduler)
    if (length := kinds.length_of(scheduler)) is not None:
        found.update(length=length.steps, length_name=length.name, final=length.final)
    if "base_lrs" not in found:  # a sequence has none of its own
        found["base_lrs"] = next((rates for leaf in kinds.leaves(scheduler) if (rates := rates_of(leaf))), None)
    found["last_lrs"] = rates_of(scheduler, "_last_lr")  # as it set them last
    floors = [(floor, leaf) for leaf in kinds.leaves(scheduler) if (floor := kinds.floor_of(leaf)) is not None]
    if floors:
        (name, value), _ = floors[-1]  # the last one to act decides where a sequence ends
        found.update(floor_name=name, **({"floors": value} if isinstance(value, list) else {"floor": value}))
    return {key: value for key, value in found.items() if value not in (None, [], {}, False) or key == "final"}


def node_of(scheduler: Any, optimizer: Any) -> dict[str, Any]:
    """One scheduler of the tree; ``optimizer`` is what its parent drives."""
    cls = type(scheduler)
    own = kinds.optimizer_of(scheduler)
    groups = len(optimizer.param_groups) if optimizer is not None else None
    return _said(
        class_name=cls.__name__,
        qualified=f"{cls.__module__}.{cls.__qualname__}",
        attributes=_attributes(scheduler),
        lists=_lengths(scheduler, groups),
        base_lrs=rates_of(scheduler),
        foreign=own is not None and optimizer is not None and not kinds.same_optimizer(own, optimizer),
        lambdas=_lambdas(scheduler),
        plateau=_plateau(scheduler),
        children=[node_of(child, optimizer) for child in kinds.children_of(scheduler)],
        begins=kinds.begins_of(scheduler),
    )


def _said(**found: Any) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value not in (None, [], {}, False) or key == "source"}


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


def _lengths(scheduler: Any, groups: int | None) -> dict[str, int]:
    found = {name: getattr(scheduler, name, None) for name in _LISTS}
    return {name: len(value) for name, value in found.items() if isinstance(value, (list, tuple))} if groups else {}


def _plateau(scheduler: Any) -> dict[str, Any] | None:
    if kinds.shape_of(scheduler) != "plateau":
        return None
    keys = ("mode", "factor", "patience", "min_lrs", "default_min_lr", "threshold")
    found = {key: getattr(scheduler, key, None) for key in keys}
    found["min_lrs"] = list(found["min_lrs"]) if isinstance(found["min_lrs"], (list, tuple)) else None
    return {key: value for key, value in found.items() if isinstance(value, (int, float, str, list))}


def _lambdas(scheduler: Any) -> dict[str, Any] | None:
    functions = kinds.lambdas_of(scheduler)
    if not functions:
        return None
    codes = [kinds.underlying(function) for function in functions]
    return _said(
        count=len(functions),
        distinct=len({id(function) for function in functions}),
        arguments=sorted({name for function in functions if (name := kinds.counter_name(function))}),
        names=sorted({code.__name__ for code in codes if code is not None}),
        modules=sorted({code.__module__ for code in codes if code is not None and code.__module__}),
        **closures.shared_variables(functions),
    )


def constructed_at(scheduler: Any) -> int | None:
    """The ``last_epoch`` given to the constructor of one of torch's own schedulers, where it was not -1."""
    if not isinstance(scheduler, LRScheduler) or type(scheduler).step is not LRScheduler.step:
        return None
    counted_from = scheduler.last_epoch - getattr(scheduler, "_step_count", scheduler.last_epoch + 1)
    return counted_from if counted_from >= 0 else None


def before_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The numeric options of a group as it was before any scheduler, for ``GroupSchedule.before``."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if (rate := number(value)) is not None:
            found[key] = rate
        elif isinstance(value, (list, tuple)) and all(number(item) is not None for item in value):
            found[key] = [number(item) for item in value]
    return found
