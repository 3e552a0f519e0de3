"""Take the wrappers of accelerate, Lightning, apex and others off optimizers and schedulers, without importing any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lrlint.targets.returned import is_optimizer, is_scheduler
from lrlint.targets.safe_getattr import attribute

_DEPTH = 6


def unwrap_optimizer(optimizer: Any) -> tuple[Any, str | None]:
    """(the optimizer inside its wrappers, the class name of the outermost wrapper or None)."""
    inner = optimizer
    for _ in range(_DEPTH):
        wrapped = attribute(inner, "optimizer")
        if wrapped is None or wrapped is inner or not is_optimizer(wrapped):
            break
        inner = wrapped
    return inner, None if inner is optimizer else type(optimizer).__name__


def unwrap_scheduler(scheduler: Any) -> tuple[Any, dict[str, Any]]:
    """(the scheduler itself, how often the wrapper steps it)."""
    inner = attribute(scheduler, "scheduler")
    if inner is None or not is_scheduler(inner):
        return scheduler, {}
    config: dict[str, Any] = {"wrapped": type(scheduler).__name__}
    if type(scheduler).__module__.startswith("accelerate."):
        config.update(framework="accelerate", interval="step", split_batches=bool(scheduler.split_batches))
    return inner, config


def expand(optimizers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The optimizers, with a container of several (one that has no groups of its own) taken apart."""
    for name, optimizer in optimizers.items():
        inner = attribute(optimizer, "optimizers")
        parts = list(inner.values()) if isinstance(inner, Mapping) else inner
        if isinstance(parts, (list, tuple)) and parts and all(is_optimizer(part) for part in parts):
            yield from ((f"{name}.{k}" if name else str(k), part) for k, part in enumerate(parts))
        else:
            yield name, optimizer
