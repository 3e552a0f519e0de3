"""A Lightning Trainer that is running: the module, optimizers and schedulers that it trains with.

`lrlint.targets.frameworks.lightning_module` asks a module for new optimizers. Once a Trainer has set up its own, those are what
steps: they are read from it, and nothing is built.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_KEYS = ("name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict")


@dataclass(frozen=True)
class Fit:
    """What a Trainer trains: its module, its optimizers (unwrapped), and each scheduler with its configuration."""

    module: Any
    optimizers: list[Any]
    schedulers: list[tuple[Any, dict[str, Any]]]


def fit_of(trainer: Any) -> Fit | None:
    """The fit that a Trainer is in, or has done; None before it has set up its optimizers.

    Inside `fit`, `lightning_module` is the user's module also where a strategy trains a wrapped one.
    """
    module, optimizers, entries = None, [], []
    with contextlib.suppress(Exception):  # a Trainer without a module has neither
        module, optimizers = trainer.lightning_module, list(trainer.optimizers)
        entries = list(trainer.lr_scheduler_configs)
    if module is None or not optimizers:
        return None
    return Fit(module, [getattr(o, "optimizer", o) for o in optimizers], [config_of(entry) for entry in entries])


def is_config(item: Any) -> bool:
    """Whether it is Lightning's LRSchedulerConfig: known by its fields, so that the library need not be imported."""
    return type(item).__name__ == "LRSchedulerConfig" and all(hasattr(item, key) for key in ("scheduler", *_KEYS))


def config_of(entry: Any) -> tuple[Any, dict[str, Any]]:
    """(scheduler, configuration) of an LRSchedulerConfig, in the form of `lightning_module.parse_scheduler`.

    Lightning has filled in its defaults by then: which keys the user wrote is no longer known.
    """
    config = {key: getattr(entry, key) for key in _KEYS}
    return entry.scheduler, {**config, "framework": "lightning", "written": [], "unknown": [], "stray": []}


def as_written(fit: Fit, returned: Mapping[int, dict[str, Any]]) -> Fit:
    """The fit with configurations as `configure_optimizers` returned them, by identity of the scheduler."""
    known = [(scheduler, returned.get(id(scheduler), config)) for scheduler, config in fit.schedulers]
    return Fit(fit.module, fit.optimizers, known)


#: Where Lightning reads what `configure_optimizers` returned, in both of its packages.
CONFIGURING = ("lightning.pytorch.core.optimizer", "pytorch_lightning.core.optimizer")


def watch_configure(module: ModuleType, stack: ExitStack, note: Callable[[Any], None]) -> None:
    """Note what `configure_optimizers` returns, before Lightning fills in what the user left out.

    A Lightning without this function is read from its LRSchedulerConfigs alone.
    """
    original = vars(module).get("_configure_optimizers")
    if original is None:
        return

    @functools.wraps(original)
    def configure(result: Any, *args: Any, **kwargs: Any) -> Any:
        note(result)
        return original(result, *args, **kwargs)

    stack.callback(setattr, module, "_configure_optimizers", original)
    module._configure_optimizers = configure  # type: ignore[attr-defined]
