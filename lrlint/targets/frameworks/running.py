"""The framework that runs a training script: the Trainer in the frames that led to a step of its own optimizer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

from lrlint.targets.frameworks.engines import is_engine
from lrlint.targets.frameworks.lightning import fit_of

#: What the loops of the frameworks, and most scripts, call the batch in hand.
_BATCHES = ("batch", "inputs")

Seen = Sequence[tuple[str, Any]]


def trainer_of(stepping: Any, seen: Seen) -> Any:
    """The Trainer in sight that steps this optimizer, of Lightning or transformers; None where none does."""
    for _, value in seen:
        home = next((b.__module__ for b in type(value).__mro__ if b.__name__ == "Trainer"), "")
        if home.startswith(("lightning.", "pytorch_lightning.")):
            fit = fit_of(value)
            if fit is not None and any(_inner(optimizer) is stepping for optimizer in fit.optimizers):
                return value
        elif home.startswith("transformers.") and _inner(getattr(value, "optimizer", None)) is stepping:
            return value
    return None


def engine_of(seen: Seen) -> Any:
    """The Accelerator or Fabric in sight, innermost first; a LightningModule's own Fabric counts."""
    return next((value for _, value in seen if is_engine(value)), None)


def batch_of(seen: Seen) -> list[Any] | None:
    """The batch in hand, as a list of one."""
    return next(([value] for name, value in seen if name in _BATCHES and _is_batch(value)), None)


def with_wrappers(schedulers: Sequence[Any], seen: Seen) -> list[Any]:
    """The schedulers, each inside the wrapper of accelerate's that is in sight: it decides how often they step."""
    wrappers = {
        id(value.scheduler): value
        for _, value in seen
        if type(value).__module__.startswith("accelerate.") and hasattr(value, "scheduler")
    }
    return [wrappers.get(id(scheduler), scheduler) for scheduler in schedulers]


def _is_batch(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(part, torch.Tensor) for part in parts)


def _inner(optimizer: Any) -> Any:
    """Without the wrappers of Lightning, accelerate and others."""
    for _ in range(6):
        inner = getattr(optimizer, "optimizer", None)
        if inner is None or not hasattr(inner, "param_groups"):
            break
        optimizer = inner
    return optimizer


@contextmanager
def after_import(names: Sequence[str], act: Callable[[ModuleType, ExitStack], None]) -> Iterator[None]:
    """Let ``act`` watch each of these modules as soon as it is imported, or now; the stack it is given undoes it."""
    with ExitStack() as stack:
        for name in names:
            if name in sys.modules:
                act(sys.modules[name], stack)
        finder = _Finder({name for name in names if name not in sys.modules}, lambda module: act(module, stack))
        sys.meta_path.insert(0, finder)
        stack.callback(lambda: sys.meta_path.remove(finder) if finder in sys.meta_path else None)
        yield


class _Finder(MetaPathFinder):
    """Finds nothing by itself: it has the module found as usual, and is told when it has been executed."""

    def __init__(self, names: set[str], act: Callable[[ModuleType], None]) -> None:
        self._names, self._act = names, act

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._names:
            return None
        self._names.discard(name)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            _tell(spec.loader, self._act)
        return spec


def _tell(loader: Loader, act: Callable[[ModuleType], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        act(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]
