"""Run an unmodified training script up to its first ``optimizer.step()`` and take the setup from there.

Just before the step, the script's objects are complete and nothing has been trained: the optimizers and schedulers are
those whose construction was recorded, the models are found in the frames that led to the step.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
import torch.multiprocessing
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lrlint.errors import TargetError
from lrlint.facts import Span
from lrlint.targets import returned
from lrlint.targets.provenance.recorder import Recording
from lrlint.targets.returned import Outcome

Seen = list[tuple[str, Any]]

#: Local names of a loss, where it stands beside the model.
_LOSSES = ("criterion", "loss_fn", "loss_function", "loss_func")


class _Reached(BaseException):
    """The first step is about to be taken. Not an Exception: the script must not swallow it."""

    def __init__(self, optimizer: Optimizer, seen: Seen, span: Span | None) -> None:
        super().__init__()
        self.optimizer, self.seen, self.span = optimizer, seen, span


def until_first_step(run: Callable[[], None], recording: Recording) -> Outcome:
    """The setup at the first step that ``run`` takes. Raises TargetError where it takes none, or without a model."""
    first: list[_Reached] = []

    def reached(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not first:
            frame = sys._getframe(1)
            first.append(_Reached(optimizer, list(_visible(frame)), recording.call(frame, optimizer)))
        raise first[0]

    handle = register_optimizer_step_pre_hook(reached)
    try:
        with _in_one_process():
            run()
    except KeyboardInterrupt:
        raise
    except BaseException:  # also what a script makes of our exception that catches everything
        if not first:
            raise
    finally:
        handle.remove()
    if first:
        return replace(_setup(first[0].optimizer, first[0].seen, recording), span=first[0].span)
    raise TargetError(
        "the script ended without an optimizer.step() in its own process",
        "pass it what it needs to train (--script train.py -- ARGS), or write a factory: train.py:build",
    )


@contextlib.contextmanager
def _in_one_process() -> Iterator[None]:
    """`torch.multiprocessing.spawn` of one process runs in this one; of several, it is refused: they would train."""

    def start(fn: Callable[..., Any], args: Sequence[Any] = (), nprocs: int = 1, *_: Any, **__: Any) -> None:
        if nprocs != 1:
            raise TargetError(
                f"the script trains in {nprocs} processes of its own (torch.multiprocessing), which lrlint cannot stop",
                "let it start one process, start it with torchrun, or write a factory: train.py:build",
            )
        fn(0, *args)

    homes = (torch.multiprocessing, sys.modules["torch.multiprocessing.spawn"])
    before = [home.start_processes for home in homes]
    try:
        for home in homes:
            home.start_processes = start  # type: ignore[attr-defined]
        yield
    finally:
        for home, function in zip(homes, before, strict=True):
            home.start_processes = function  # type: ignore[attr-defined]


def _visible(frame: FrameType | None) -> Iterator[tuple[str, Any]]:
    """Names and values in sight of a call, innermost first: locals, the script's globals, what each ``self`` holds."""
    while frame is not None and not str(frame.f_globals.get("__name__")).startswith("lrlint."):
        yield from list(frame.f_locals.items())
        owner = frame.f_locals.get("self")
        if owner is not None and not isinstance(owner, (nn.Module, Optimizer)):
            yield from list(getattr(owner, "__dict__", {}).items())
        frame = frame.f_back


def _setup(stepping: Optimizer, seen: Seen, recording: Recording) -> Outcome:
    optimizers = _in_use(stepping, seen, [optimizer for optimizer, _ in recording.created_optimizers])
    held = set().union(*map(_held, optimizers))
    modules = {id(value): (name, value) for name, value in reversed(seen) if isinstance(value, nn.Module)}
    inner = {id(child) for _, module in modules.values() for child in module.modules() if child is not module}
    roots = [(name, module) for key, (name, module) in modules.items() if key not in inner]
    models = [(n, m) for n, m in roots if n not in _LOSSES and any(id(p) in held for p in m.parameters())]
    if not models:
        raise TargetError(
            "no model in sight holds the parameters that the script's first optimizer.step() trains",
            "write a factory that returns the model and its optimizer: train.py:build",
        )
    found = Outcome(models=_keyed(models), in_training=True)
    found.optimizers = _keyed([(_name_of(seen, optimizer), optimizer) for optimizer in optimizers])
    found.schedulers = _outermost([scheduler for scheduler, _ in recording.created_schedulers])
    found.extra_modules = {n: m for n, m in roots if n in _LOSSES and any(True for _ in m.parameters())}
    found.batches = next(([value] for name, value in seen if name == "batch" and _is_batch(value)), None)
    scaler = next((value for _, value in seen if type(value).__name__ == "GradScaler"), None)
    found.declared = {} if scaler is None else {"grad_scaler": scaler}
    return found


def _in_use(stepping: Optimizer, seen: Seen, created: list[Any]) -> list[Any]:
    """The optimizers in sight, also inside a list, a dict or a wrapper; one that was built and dropped is not."""
    visible = {id(stepping)}
    for _, value in seen:
        for part in _parts(value):
            visible |= {id(part), id(getattr(part, "optimizer", None))} if returned.is_optimizer(part) else set()
    found = [optimizer for optimizer in created if id(optimizer) in visible] or [stepping]
    inner = {id(part) for optimizer in found for part in _inside(optimizer)}
    return [optimizer for optimizer in found if id(optimizer) not in inner]


def _inside(optimizer: Any) -> Iterator[Any]:
    """The optimizers that this one steps (as SAM does): it keeps them, and holds what they hold."""
    mine = _held(optimizer)
    for value in vars(optimizer).values():
        for part in _parts(value):
            if part is not optimizer and returned.is_optimizer(part) and _held(part) <= mine:
                yield part


def _parts(value: Any) -> Iterator[Any]:
    """What a list or a dict holds; else the value itself."""
    yield from value if isinstance(value, (list, tuple)) else value.values() if type(value) is dict else (value,)


def _held(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _is_batch(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(part, torch.Tensor) for part in parts)


def _name_of(seen: Seen, item: Any) -> str:
    """Its key in a dict of its kind, else the innermost name (which may be that of a loop over the dict)."""
    tables = [value for _, value in seen if type(value) is dict and all(map(returned.is_optimizer, value.values()))]
    for key in [key for table in tables for key, value in table.items() if value is item and isinstance(key, str)]:
        return key
    return next((name for name, value in seen if value is item and name != "self"), "")


def _keyed(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """By name; a single one is ``""``, and what shares a name (or has none) is numbered."""
    if len(items) == 1:
        return {"": items[0][1]}
    keyed: dict[str, Any] = {}
    for position, (name, item) in enumerate(items):
        keyed[name if name and name not in keyed else str(position)] = item
    return keyed


def _outermost(schedulers: list[Any]) -> list[Any]:
    """Without those that another one (SequentialLR, ChainedScheduler) steps."""
    inner = {id(part) for scheduler in schedulers for part in getattr(scheduler, "_schedulers", ())}
    return [scheduler for scheduler in schedulers if id(scheduler) not in inner]
