"""What each scheduler class is: its parts, its own length, the clock it is made for, the floor it anneals to."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_schedulers

from lrlint.facts.scheduler import Floor, Length, SchedulerKind

#: By class name, so that a subclass or a copy in another library is what its base is.
KINDS: dict[str, SchedulerKind] = {
    "ConstantLR": "constant",
    "LinearLR": "warmup",
    "LambdaLR": "lambda",
    "MultiplicativeLR": "lambda",
    "StepLR": "decay",
    "MultiStepLR": "decay",
    "ExponentialLR": "decay",
    "PolynomialLR": "decay",
    "CosineAnnealingLR": "decay",
    "CosineAnnealingWarmRestarts": "cycle",
    "CyclicLR": "cycle",
    "OneCycleLR": "cycle",
    "ReduceLROnPlateau": "plateau",
    "GreedyLR": "plateau",
    "SWALR": "averaging",
}
#: Counted in optimizer steps by their documentation.
PER_STEP = ("OneCycleLR", "CyclicLR")

#: Arguments that say when a schedule is over, as attributes, keyword arguments or variables of a closure.
TOTALS = (
    *("num_training_steps", "total_steps", "T_max", "t_max", "total_iters", "max_steps", "max_iters", "t_total"),
    *("total_iterations", "max_iterations", "training_steps", "num_steps", "lr_decay_iters", "t_initial"),
    *("total_epochs", "max_epochs", "num_epochs", "n_epochs", "epochs"),
)
FLOORS = ("eta_min", "min_lr", "lr_min", "final_lr", "end_lr")

#: Names of the argument by which step() expects a metric, or a position.
_METRICS = ("metric", "metrics", "loss", "val_loss", "value", "score", "val_metric", "current")
_COUNTERS = ("epoch", "step", "num_updates", "num_update", "t", "it", "iteration", "current_step", "global_step")


def unwrap_optimizer(optimizer: Any) -> Any:
    """The optimizer inside wrappers (accelerate, DeepSpeed, Lightning): the one whose groups are written."""
    for _ in range(8):
        inner = getattr(optimizer, "optimizer", None)
        if inner is None or not hasattr(inner, "param_groups"):
            break
        optimizer = inner
    return optimizer


def same_optimizer(first: Any, second: Any) -> bool:
    """Whether both write to the same groups: wrappers share the group dicts of the optimizer inside."""
    first, second = unwrap_optimizer(first), unwrap_optimizer(second)
    groups, others = getattr(first, "param_groups", []), getattr(second, "param_groups", [])
    shared = bool(groups) and len(groups) == len(others) and all(a is b for a, b in zip(groups, others, strict=True))
    return first is second or shared


def optimizer_of(scheduler: Any) -> Any:
    """The optimizer a scheduler drives, unwrapped; None where it holds none."""
    found = getattr(scheduler, "optimizer", None)
    if not hasattr(found, "param_groups"):
        held = (value for value in getattr(scheduler, "__dict__", {}).values() if isinstance(value, Optimizer))
        found = next(held, None)
    return None if found is None else unwrap_optimizer(found)


def children_of(scheduler: Any) -> list[Any]:
    """Schedulers nested in this one: sequential, chained, or wrapped by a warm-up."""
    found = [*(getattr(scheduler, "_schedulers", None) or ())]
    for name in ("after_scheduler", "base_scheduler", "scheduler"):
        inner = getattr(scheduler, name, None)
        if inner is not None and hasattr(inner, "step"):
            found.append(inner)
    return [child for child in found if hasattr(child, "step") and not isinstance(child, Optimizer)]


def tree(scheduler: Any) -> Iterator[Any]:
    yield scheduler
    for child in children_of(scheduler):
        yield from tree(child)


def leaves(scheduler: Any) -> list[Any]:
    """The schedulers that compute rates themselves."""
    return [node for node in tree(scheduler) if not children_of(node)]


def kind_of(scheduler: Any) -> SchedulerKind:
    return next((KINDS[base.__name__] for base in type(scheduler).__mro__ if base.__name__ in KINDS), "other")


def is_timm(scheduler: Any) -> bool:
    return callable(getattr(scheduler, "step_update", None)) and callable(getattr(scheduler, "update_groups", None))


def data_driven(scheduler: Any) -> str | None:
    """Why the scheduler cannot be run without training, or None."""
    for node in tree(scheduler):
        name = type(node).__name__
        if kind_of(node) == "plateau" or (is_timm(node) and "plateau" in name.lower()):
            return f"{name} follows a metric that only training produces"
        if not callable(getattr(node, "step", None)):
            return f"{name} has no step method"
        required = required_argument(node)
        if required in _METRICS:
            return f"{name}.step needs `{required}`, which only training produces"
        if required is not None and required not in _COUNTERS:
            return f"{name}.step needs `{required}`, whose meaning is not known"
    return None


def required_argument(scheduler: Any) -> str | None:
    """The first argument without which step() cannot be called."""
    try:
        parameters = inspect.signature(scheduler.step).parameters.values()
    except (TypeError, ValueError):
        return None
    for p in parameters:
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            return p.name
    return None


def lambdas_of(scheduler: Any) -> list[Any]:
    found = getattr(scheduler, "lr_lambdas", None)
    return [f for f in found if callable(f)] if isinstance(found, (list, tuple)) else []


def underlying(function: Any) -> types.FunctionType | None:
    """The Python function behind a partial, a method or a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, (types.FunctionType, types.MethodType)) and not inspect.isbuiltin(function):
        function = vars(type(function)).get("__call__")  # a callable object: the function its class calls
    function = getattr(function, "__func__", function)
    return function if isinstance(function, types.FunctionType) else None


def bound_names(function: Any) -> dict[str, Any]:
    """Variables a factor function was made with: keyword arguments, closed-over variables, attributes."""
    found: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        found.update(function.keywords)
        function = function.func
    if not isinstance(function, (types.FunctionType, types.MethodType)):
        found.update(getattr(function, "__dict__", {}))
    code = underlying(function)
    if code is not None:
        for name, cell in zip(code.__code__.co_freevars, code.__closure__ or (), strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not bound yet
                continue
    return found


def counter_name(function: Any) -> str:
    """What a factor function calls its argument."""
    code = underlying(function)
    if code is None:
        return ""
    names = [name for name in code.__code__.co_varnames[: code.__code__.co_argcount] if name not in ("self", "cls")]
    return names[0] if names else ""


def is_transformers(scheduler: Any) -> bool:
    """A schedule made by one of transformers' get_*_schedule functions: they count optimizer steps."""
    code = [underlying(function) for function in lambdas_of(scheduler)]
    return any(f is not None and (f.__module__ or "").startswith(("transformers.", "diffusers.")) for f in code)


def counts_steps(scheduler: Any) -> bool:
    """Whether the class is documented to be stepped after every optimizer step."""
    bases = {base.__name__ for leaf in leaves(scheduler) for base in type(leaf).__mro__}
    return not bases.isdisjoint(PER_STEP) or any(is_transformers(leaf) for leaf in leaves(scheduler))


def length_of(scheduler: Any) -> Length | None:
    """When the schedule is over, by its own arguments; None where they do not say."""
    children = children_of(scheduler)
    begins = begins_of(scheduler)
    if begins is not None:
        return _sequence(children, begins)
    if children:
        found = [length for child in children if (length := length_of(child))]
        own = [length for length in found if length.final] or found
        return max(own, key=lambda length: length.steps, default=None)
    return _leaf_length(scheduler)


def begins_of(scheduler: Any) -> list[int] | None:
    """The steps at which the children of a sequence, but for the first, take over; None where it is none."""
    milestones = getattr(scheduler, "_milestones", None)
    if isinstance(milestones, list) and len(milestones) == len(children_of(scheduler)) - 1:
        return [int(step) for step in milestones]
    return None


def _sequence(children: list[Any], begins: list[int]) -> Length | None:
    begun = begins[-1] if begins else 0
    last = length_of(children[-1])
    if last is None:
        return Length(begun, "milestones", final=False) if begun else None
    return Length(begun + last.steps, f"milestones + {last.name}" if begun else last.name, last.final)


def _leaf_length(scheduler: Any) -> Length | None:
    name = type(scheduler).__name__
    milestones = getattr(scheduler, "milestones", None)
    if milestones and all(isinstance(step, int) for step in milestones):
        return Length(max(milestones), "milestones", final=False)
    for attribute, factor in (("step_size", 1), ("total_size", 1), ("T_0", 1), ("anneal_epochs", 1)):
        value = _whole(getattr(scheduler, attribute, None))
        if value:
            return Length(value * factor, attribute, final=False)
    given: dict[str, Any] = dict(getattr(scheduler, "__dict__", {}))
    for function in lambdas_of(scheduler):
        given.update(bound_names(function))
    if "num_decay_steps" in given and _whole(given.get("num_stable_steps")) is not None:  # transformers: WSD
        parts = [_whole(given.get(key)) or 0 for key in ("num_warmup_steps", "num_stable_steps", "num_decay_steps")]
        return Length(sum(parts), "num_warmup_steps + num_stable_steps + num_decay_steps")
    for key in TOTALS:
        value = _whole(given.get(key))
        if value:
            # A warm-up and a constant factor end there, and the rate stays: another schedule may follow by hand.
            final = name not in ("LinearLR", "ConstantLR") or getattr(scheduler, "end_factor", 1.0) < 1.0
            return Length(value, key, final)
    warmup = _whole(given.get("num_warmup_steps"))
    return Length(warmup, "num_warmup_steps", final=False) if warmup else None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) > 1e15:
        return None
    return int(value)


def floor_of(scheduler: Any) -> Floor | None:
    """The absolute rate that one scheduler anneals to."""
    if kind_of(scheduler) == "plateau":
        return None
    share = next((bound_names(f).get("min_lr_rate") for f in lambdas_of(scheduler) if is_transformers(scheduler)), None)
    if isinstance(share, float):  # transformers turns an absolute min_lr into a share of the optimizer's default rate
        return Floor("min_lr", rates=tuple(share * float(base) for base in scheduler.base_lrs))
    for name in FLOORS:
        value = getattr(scheduler, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return Floor(name, float(value))
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, (int, float)) for item in value):
            return Floor(name, rates=tuple(float(item) for item in value))
    return None


def method(scheduler: Any, name: str, owner: type) -> bool:
    """Whether the scheduler's method is the one torch's class defines."""
    ours: Callable[..., Any] | None = getattr(type(scheduler), name, None)
    return ours is not None and ours is getattr(owner, name, None)


def torch_class(scheduler: Any, *names: str) -> type | None:
    """The torch class whose computation this scheduler runs unchanged, among the named ones."""
    for name in names:
        owner = getattr(torch_schedulers, name)
        if isinstance(scheduler, owner) and method(scheduler, "get_lr", owner) and method(scheduler, "step", owner):
            return owner  # type: ignore[no-any-return]
    return None
