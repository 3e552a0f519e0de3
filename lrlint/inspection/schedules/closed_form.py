"""Schedulers whose state at any step is a formula: torch's closed forms, and classes that read the step number alone.

`closed_form` puts the groups into the state of an arbitrary step, so that a long horizon needs a few hundred evaluations.
A formula holds only while nobody interfered (a rate edited by hand, a group added later): callers compare it with
real steps first. Whether a class of the user's reads the step number alone shows only when it is evaluated: unless the
formula is `known`, callers evaluate it again in another order.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from lrlint.inspection.schedules import kinds

ClosedForm = Callable[[int], None]

#: Torch's own closed forms.
_CLOSED = ("StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR")
#: get_lr() reads the step number and constants only.
_PURE = ("LambdaLR", "CyclicLR", "OneCycleLR")
#: Closed forms that are a factor on the base rate: chained, they multiply. A cosine does until it has reached 0.
_FACTORS = ("StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR")


def closed_form(scheduler: Any) -> ClosedForm | None:
    """A function that sets the groups' options as they are at a step of the scheduler; None without a formula."""
    children = kinds.children_of(scheduler)
    if children:
        return _nested(scheduler, children)
    if kinds.is_timm(scheduler):
        return _timm(scheduler)
    if kinds.torch_class(scheduler, "CosineAnnealingWarmRestarts"):
        return _restarts(scheduler)
    values = _values(scheduler)
    return None if values is None else _writer(scheduler, values)


def known(scheduler: Any) -> bool:
    """Whether every part of the formula is one of torch's classes, or timm's."""
    names = (*_CLOSED, *_PURE, "CosineAnnealingWarmRestarts")
    return all(kinds.is_timm(leaf) or kinds.torch_class(leaf, *names) for leaf in kinds.leaves(scheduler))


def _values(scheduler: Any) -> Callable[[int], list[Any]] | None:
    """The rates of all groups at a step."""
    closed = kinds.torch_class(scheduler, *_CLOSED)
    if closed is not None and kinds.method(scheduler, "_get_closed_form_lr", closed):
        compute = scheduler._get_closed_form_lr
    elif isinstance(scheduler, LRScheduler) and kinds.method(scheduler, "step", LRScheduler):
        compute = scheduler.get_lr
    else:
        return None
    scheduler._get_lr_called_within_step = True

    def values(step: int) -> list[Any]:
        scheduler.last_epoch, scheduler._step_count = step, step + 1
        rates: list[Any] = compute()
        scheduler._last_lr = rates
        return rates

    return values


def _writer(scheduler: Any, values: Callable[[int], list[Any]]) -> ClosedForm:
    groups = scheduler.optimizer.param_groups

    def at(step: int) -> None:
        _write(groups, values(step))

    return at


def _write(groups: list[dict[str, Any]], rates: Iterable[Any]) -> None:
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = float(rate) if isinstance(rate, torch.Tensor) else rate


def _restarts(scheduler: Any) -> ClosedForm:
    """Cosine with restarts; the cycle is found by integers (torch's step(epoch) takes a logarithm, which may round)."""
    first, growth = scheduler.T_0, scheduler.T_mult
    scheduler._get_lr_called_within_step = True

    def at(step: int) -> None:
        begun, length = 0, first
        if growth == 1:
            begun = step - step % first
        else:
            while step >= begun + length:
                begun, length = begun + length, length * growth
        scheduler.last_epoch, scheduler.T_cur, scheduler.T_i = step, step - begun, length
        _write(scheduler.optimizer.param_groups, scheduler.get_lr())

    return at


def _timm(scheduler: Any) -> ClosedForm:
    """timm computes from the counter alone; whether it counts epochs or updates, the other call is void."""

    def at(step: int) -> None:
        scheduler.step(step)
        scheduler.step_update(step)

    return at


def _nested(scheduler: Any, children: list[Any]) -> ClosedForm | None:
    if type(scheduler).__name__ == "SequentialLR" and kinds.torch_class(scheduler, "SequentialLR"):
        return _sequential(scheduler, children)
    if type(scheduler).__name__ == "ChainedScheduler" and kinds.torch_class(scheduler, "ChainedScheduler"):
        return _chained(scheduler, children)
    return None


def _sequential(scheduler: Any, children: list[Any]) -> ClosedForm | None:
    forms = [None if kinds.children_of(child) else closed_form(child) for child in children]
    parts = [part for part in forms if part is not None]
    milestones = [int(step) for step in scheduler._milestones]

    def at(step: int) -> None:
        index = bisect_right(milestones, step)
        parts[index](step - (milestones[index - 1] if index else 0))

    return at if len(parts) == len(children) else None


def _chained(scheduler: Any, children: list[Any]) -> ClosedForm | None:
    cosines = [c for c in children if kinds.torch_class(c, "CosineAnnealingLR") and c.eta_min == 0]
    if not all(child in cosines or kinds.torch_class(child, *_FACTORS) for child in children):
        return None
    end = min((cosine.T_max for cosine in cosines), default=math.inf)
    formulas = [formula for child in children if (formula := _values(child)) is not None]
    bases = [float(rate) for rate in children[0].base_lrs]
    if len(formulas) < len(children) or not all(bases):
        return None

    def values(step: int) -> list[float]:
        if step > end:
            raise ValueError("a chained cosine that comes back up adds instead of multiplying")
        rates = zip(*(map(float, formula(step)) for formula in formulas), strict=True)
        return [base * math.prod(rate / base for rate in group) for base, group in zip(bases, rates, strict=True)]

    groups = children[0].optimizer.param_groups

    def at(step: int) -> None:
        _write(groups, values(step))

    return at


def hints(scheduler: Any, horizon: int) -> set[int]:
    """Steps at which the formula is known to bend or jump, and where its extremes lie."""
    steps: set[float] = set()
    offset = 0.0
    if kinds.children_of(scheduler):
        milestones = [0, *map(int, getattr(scheduler, "_milestones", ()))]
        for index, child in enumerate(kinds.children_of(scheduler)):
            begun = milestones[index] if index < len(milestones) else 0
            steps.update({begun - 1, begun}, (begun + step for step in hints(child, horizon)))
        return {int(step) for step in steps if 0 <= step <= horizon}
    length = kinds.length_of(scheduler)
    if length is not None:
        steps.update((length.steps, 2 * length.steps))
    steps.update(getattr(scheduler, "milestones", ()))
    for phase in getattr(scheduler, "_schedule_phases", ()):
        steps.update((math.floor(phase["end_step"]), math.ceil(phase["end_step"])))
    step_ratio = getattr(scheduler, "step_ratio", None)
    cycle = next((value for key in ("total_size", "T_0", "step_size") if (value := getattr(scheduler, key, None))), 0)
    growth = getattr(scheduler, "T_mult", 1)
    while cycle and len(steps) < 400 and offset <= horizon:
        steps.update((offset - 1, offset, offset + cycle * (step_ratio or 0.0)))
        offset, cycle = offset + cycle, cycle * growth
    for function in kinds.lambdas_of(scheduler):
        bound = [value for value in kinds.bound_names(function).values() if type(value) in (int, float)]
        steps.update(value for value in bound if 1 <= value <= horizon)
    near = {int(step) + shift for step in steps if step == step and abs(step) < 1e15 for shift in (-1, 0, 1)}
    return {step for step in near if 0 <= step <= horizon}
