"""Read what a factory returned (or what the Python API was given): which objects are models, optimizers, schedulers."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lrlint.facts import Span
from lrlint.targets.frameworks.engines import is_engine
from lrlint.targets.frameworks.lightning import is_config
from lrlint.targets.safe_getattr import attribute

EXPECTED = (
    "return (model, optimizer), (model, optimizer, scheduler), or a dict or object with `model`, `optimizer`, and what "
    "else there is: `scheduler`, `batches`, `loss_fn`, `metric_fn`, `example_inputs`, `total_steps`, `extra_modules`"
)

#: The name of each part, and what else people call it.
_PARTS = {
    "models": ("model", "models", "net", "network", "networks"),
    "optimizers": ("optimizer", "optimizers", "optim", "opt"),
    "schedulers": ("scheduler", "schedulers", "lr_scheduler", "lr_schedulers"),
    "trainer": ("trainer",),
    "engine": ("accelerator", "fabric"),
    "batches": ("batches", "dataloader", "train_loader", "train_dataloader", "loader"),
    "loss_fn": ("loss_fn", "loss_function"),
    "metric_fn": ("metric_fn",),
    "criterion": ("criterion", "loss"),
    "example_inputs": ("example_inputs", "example_input"),
    "extra_modules": ("extra_modules",),
    "train": ("train",),
    "ranks": ("ranks",),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}


class NotASetup(Exception):
    """What came is no setup; the message says what it is."""


@dataclass
class ReturnedParts:
    """The parts of a setup, sorted but not yet unwrapped. Scheduler entries may be dicts of Lightning's form.

    ``ranks`` are the optimizers of all processes, in order. ``engine`` is an Accelerator or a Fabric. ``span`` is the
    place that stands for the whole, where that is no definition. ``in_training``: it was taken from a training loop, its
    modules are in the modes they train in.
    """

    models: dict[str, Any] = field(default_factory=dict)
    optimizers: dict[str, Any] = field(default_factory=dict)
    schedulers: list[Any] = field(default_factory=list)
    extra_modules: dict[str, nn.Module] = field(default_factory=dict)
    trainer: Any = None
    engine: Any = None
    batches: Any = None
    loss_fn: Any = None
    metric_fn: Any = None
    example_inputs: Any = None
    train: Any = None
    ranks: Sequence[Any] = ()
    declared: dict[str, Any] = field(default_factory=dict)
    span: Span | None = None
    in_training: bool = False


def is_model(item: Any) -> bool:
    return isinstance(item, nn.Module)


def is_optimizer(item: Any) -> bool:
    """A torch optimizer, or something that stands for one (it has parameter groups and steps)."""
    if isinstance(item, Optimizer):
        return attribute(item, "param_groups") is not None
    looks = isinstance(attribute(item, "param_groups"), list) and callable(attribute(item, "step"))
    return looks and not isinstance(item, (type, nn.Module))


def is_scheduler(item: Any) -> bool:
    """Something that steps and knows its optimizer, or Lightning's form around it: a dict or an LRSchedulerConfig."""
    if isinstance(item, Mapping):
        return "scheduler" in item and is_scheduler(item["scheduler"])
    if is_config(item):
        return is_scheduler(item.scheduler)
    if isinstance(item, (type, nn.Module)) or is_optimizer(item) or not callable(attribute(item, "step")):
        return False
    return any(attribute(item, name) is not None for name in ("optimizer", "optimizers", "get_last_lr", "schedulers"))


def is_trainer(item: Any) -> bool:
    """A Trainer of lightning or transformers, by its class alone: neither library is imported for the question."""
    return is_lightning_trainer(item) or is_transformers_trainer(item)


def is_lightning_trainer(item: Any) -> bool:
    return _derives(item, "Trainer", ("lightning.", "pytorch_lightning."))


def is_transformers_trainer(item: Any) -> bool:
    return _derives(item, "Trainer", ("transformers.",))


def is_lightning_module(item: Any) -> bool:
    return _derives(item, "LightningModule", ("lightning.", "pytorch_lightning."))


def _derives(item: Any, name: str, libraries: tuple[str, ...]) -> bool:
    """Whether the object's (or class's) ancestors include the library's class of that name."""
    mro = item.__mro__ if isinstance(item, type) else type(item).__mro__
    return any(base.__name__ == name and base.__module__.startswith(libraries) for base in mro)


def read(value: Any) -> ReturnedParts:
    """Sort what a factory returned. Raises Nonsense."""
    outcome = ReturnedParts()
    if is_model(value) or is_trainer(value) or is_optimizer(value):
        _place(outcome, value, "")
    elif isinstance(value, Mapping):
        _from_names(outcome, value)
    elif isinstance(value, (tuple, list)) and not _named(value):
        for position, item in enumerate(value):
            _place(outcome, item, f" at position {position}")
    else:
        names = _named(value)
        if not names:
            raise NotASetup(describe(value))
        _from_names(outcome, names)
    return outcome


def named(value: Any, fits: Callable[[Any], bool], what: str) -> dict[str, Any]:
    """One object, or a list or dict of them, by name; the name of a single one is ``""``. Raises Nonsense."""
    if fits(value):
        return {"": value}
    items: dict[str, Any] = {}
    if isinstance(value, Mapping):
        items = {str(key): item for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        items = {str(position): item for position, item in enumerate(value)}
    wrong = next((item for item in items.values() if not fits(item)), None)
    if not items or wrong is not None:
        raise NotASetup(f"{describe(value if wrong is None else wrong)} as {what} is expected")
    return {"": next(iter(items.values()))} if len(items) == 1 and not isinstance(value, Mapping) else items


def _named(value: Any) -> dict[str, Any]:
    """The known parts among the attributes of an object (a dataclass, a namespace, a named tuple)."""
    if isinstance(value, (type, str, bytes, int, float, Optimizer)) or inspect.isroutine(value):
        return {}
    fields = list(getattr(value, "_fields", ())) or list(getattr(value, "__dict__", {}))
    fields += list(getattr(type(value), "__slots__", ())) if not fields else []
    known = [name for name in _PART_OF if hasattr(value, name)]
    names = list(dict.fromkeys([*known, *(name for name in fields if not name.startswith("_"))]))
    return {name: getattr(value, name) for name in names} if known else {}


def _from_names(outcome: ReturnedParts, names: Mapping[Any, Any]) -> None:
    known = {name: value for name, value in names.items() if name in _PART_OF and value is not None}
    for name, value in known.items():
        put(outcome, name, value)
    unnamed = not outcome.models
    for name, value in names.items():
        if name not in _PART_OF:
            _declare(outcome, str(name), value, sort=unnamed)
    if not (outcome.models or outcome.optimizers or outcome.trainer):
        listed = ", ".join(repr(name) for name in itertools.islice(names, 8))
        raise NotASetup(f"a {'dict' if isinstance(names, dict) else 'mapping'} with {listed or 'no key'}")


def take_declared(outcome: ReturnedParts) -> None:
    """Move the declared values that are parts of a setup (``batches``, ``extra_modules``, ...) to their places."""
    for name in [name for name in outcome.declared if name in _PART_OF]:
        value = outcome.declared.pop(name)
        if value is not None:
            put(outcome, name, value)


def put(outcome: ReturnedParts, name: str, value: Any) -> None:
    """Store one named part of a setup. Raises Nonsense."""
    part = _PART_OF[name]
    if part == "models":
        outcome.models.update(named(value, is_model, f"{name!r}, where a torch.nn.Module"))
    elif part == "optimizers":
        outcome.optimizers.update(named(value, is_optimizer, f"{name!r}, where a torch.optim.Optimizer"))
    elif part == "schedulers":
        named_parts = named(value, is_scheduler, f"{name!r}, where a learning rate scheduler") if _some(value) else {}
        outcome.schedulers.extend(named_parts.values())
    elif part == "extra_modules":
        named_parts = named(value, is_model, "'extra_modules', where a torch.nn.Module") if _some(value) else {}
        outcome.extra_modules.update({key or type(item).__name__: item for key, item in named_parts.items()})
    elif part == "criterion":
        if is_model(value):
            outcome.extra_modules[name] = value
        if callable(value) and outcome.loss_fn is None:
            outcome.loss_fn = value
    else:
        setattr(outcome, part, value)


def _some(value: Any) -> bool:
    return not (isinstance(value, (list, tuple, dict)) and not value)


def _declare(outcome: ReturnedParts, name: str, value: Any, sort: bool) -> None:
    """A name that is no part: an object of a setup under its own name (a GAN's two), else a declared value."""
    if sort and is_model(value):
        outcome.models[name] = value
    elif is_optimizer(value):
        outcome.optimizers[name] = value
    elif is_scheduler(value):
        outcome.schedulers.append(value)
    elif is_engine(value):
        outcome.engine = value
    else:
        outcome.declared[name] = value


def _place(outcome: ReturnedParts, item: Any, where: str) -> None:
    """One element of a returned tuple, by what it is."""
    if is_model(item) and outcome.models and _is_loss(item):
        outcome.extra_modules["criterion"] = item
        outcome.loss_fn = outcome.loss_fn or item
    elif is_model(item):
        _append(outcome.models, {"": item})
    elif is_trainer(item):
        outcome.trainer = item
    elif is_engine(item):
        outcome.engine = item
    elif is_optimizer(item):
        _append(outcome.optimizers, {"": item})
    elif is_scheduler(item):
        outcome.schedulers.append(item)
    elif isinstance(item, DataLoader):
        outcome.batches = item
    elif item is not None and not _place_all(outcome, item):
        raise NotASetup(f"{describe(item)}{where}")


def _place_all(outcome: ReturnedParts, items: Any) -> bool:
    """A list or dict in a returned tuple: all models, all optimizers, all schedulers, or named values."""
    if not isinstance(items, (list, tuple, Mapping)):
        return False
    values = [value for value in (items.values() if isinstance(items, Mapping) else items) if value is not None]
    if not values:
        return True
    for fits, into in ((is_model, outcome.models), (is_optimizer, outcome.optimizers)):
        if all(fits(value) for value in values):
            _append(into, named(items, fits, "one of them"))
            return True
    if all(is_scheduler(value) for value in values):
        outcome.schedulers.extend(values)
        return True
    if isinstance(items, Mapping):
        _from_names(outcome, items)
        return True
    return False


def _append(into: dict[str, Any], items: dict[str, Any]) -> None:
    """Add named objects; as soon as there are several, unnamed ones get their position as name."""
    for name, item in items.items():
        if "" in into:
            into["0"] = into.pop("")
        into[name if name and name not in into else (str(len(into)) if into else "")] = item


def _is_loss(item: nn.Module) -> bool:
    return type(item).__module__ == "torch.nn.modules.loss" or type(item).__name__.lower().endswith(
        ("loss", "criterion")
    )


def describe(value: Any) -> str:
    """What something is, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}, and not an object of it"
    if inspect.isgenerator(value):
        return "a generator (it says `yield` where `return` is needed)"
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return f"a {type(value).__name__} that was not called"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(type(item).__name__ for item in value[:6])
        return (
            f"a {type(value).__name__} ({inner}{', ...' if len(value) > 6 else ''})"
            if value
            else f"an empty {type(value).__name__}"
        )
    name = type(value).__name__ + (" without param_groups" if isinstance(value, Optimizer) else "")
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
