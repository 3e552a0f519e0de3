"""Run an unmodified training script up to its first ``optimizer.step()`` and take the setup from there.

Just before the step, the script's objects are complete and nothing has been trained: the optimizers and schedulers are
those whose construction was recorded, the models are found in the frames that led to the step. The inputs of the
forward pass that led there are those of the graph. A rehearsal lets the script go on from there.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import FrameType, ModuleType
from typing import Any, NoReturn, Protocol

import torch
import torch.multiprocessing
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lrlint.errors import TargetError
from lrlint.facts import Span
from lrlint.targets import returned
from lrlint.targets.forward_inputs import ForwardInputs
from lrlint.targets.frameworks import lightning, model_parts, running
from lrlint.targets.frameworks.lightning_module import parse_result
from lrlint.targets.frameworks.lr_finders import in_lr_finder
from lrlint.targets.provenance.project import is_recorder
from lrlint.targets.provenance.recorder import OTHERS, ConstructionRecorder, watch_module
from lrlint.targets.returned import ReturnedParts

Seen = list[tuple[str, Any]]

#: Local names of a loss, where it stands beside the model.
_LOSSES = ("criterion", "loss_fn", "loss_function", "loss_func")


class _Reached(BaseException):
    """The first step is about to be taken. Not an Exception: the script must not swallow it."""

    def __init__(self, optimizer: Optimizer, seen: Seen, span: Span | None) -> None:
        super().__init__()
        self.optimizer, self.seen, self.span = optimizer, seen, span


class Stopped(BaseException):
    """An observer ends the script before its first step, and says why. Not an Exception: nothing may swallow it."""


class Observer(Protocol):
    """Lets a script go on from its first step."""

    def first_step(self, parts: ReturnedParts, seen: Seen) -> None:
        """The step is about to be taken; ``parts`` is the setup, ``seen`` what is in sight."""

    def ended(self, error: BaseException | None) -> NoReturn:
        """The script has ended, or raised, after its first step."""


def until_first_step(
    run: Callable[[], None],
    recording: ConstructionRecorder,
    at_step: int = 1,
    steps_of: str = "",
    observer: Observer | None = None,
) -> ReturnedParts:
    """The setup at the first step that ``run`` takes. Raises TargetError where it takes none, or without a model.

    ``at_step``: at an optimizer's step of this number instead. ``steps_of``: only steps of the optimizer of this name
    (a variable, an attribute, a key of a table, or its class) count. With an ``observer`` the script goes on from there,
    and this function does not return.
    """
    first: list[_Reached] = []
    taken: Counter[int] = Counter()
    others: set[str] = set()
    process, calls = os.getpid(), ForwardInputs()
    tried = False

    def reached(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal tried
        if os.getpid() != process:
            os._exit(0)  # a process of the script's own, that nothing would stop from training
        frame = sys._getframe(1)
        if not first and in_lr_finder(frame):
            tried = True
            return
        if not first and steps_of and steps_of not in (names := _names(list(_visible(frame)), optimizer)):
            others.add(names[0])
            return
        taken[id(optimizer)] += 1
        if not first and taken[id(optimizer)] < at_step:
            return
        if not first:
            first.append(_Reached(optimizer, list(_visible(frame)), recording.call(frame, optimizer)))
            calls.stop()
            if observer is not None:
                try:
                    parts = _found(first[0], recording, calls)
                except TargetError as error:  # there is nothing to observe; the script must not swallow it
                    failed.append(error)
                    raise first[0] from None
                observer.first_step(parts, first[0].seen)
        if observer is None or failed:
            raise first[0]

    failed: list[TargetError] = []
    handle = register_optimizer_step_pre_hook(reached)
    error: BaseException | None = None
    try:
        with _in_one_process(), _frameworks_watched(recording), calls:
            run()
    except KeyboardInterrupt:
        raise
    except Stopped as stopped:
        raise TargetError(
            f"the script never came to an optimizer.step(): {stopped}",
            "a loop that writes its weights itself has no optimizer to look at; write a factory: train.py:build",
        ) from None
    except BaseException as raised:  # also what a script makes of our exception that catches everything
        if not first:
            raise
        error = raised
    finally:
        handle.remove()
    if failed:
        raise failed[0]
    if first and observer is not None:
        observer.ended(error)
    if first:
        return _found(first[0], recording, calls)
    if others or taken:
        step_name = f"step {at_step}" + (f" of {steps_of!r}" if steps_of else "")
        hint = f"it took {max(taken.values())}" if taken else f"optimizers that stepped: {', '.join(sorted(others))}"
        raise TargetError(f"the script ended before {step_name}", hint)
    if tried:
        raise TargetError(
            "the only steps that the script took are those of a learning rate range test, which is no training",
            "pass it what it needs to train (--script train.py -- ARGS), or write a factory: train.py:build",
        )
    raise TargetError(
        "the script ended without an optimizer.step() in its own process",
        "pass it what it needs to train (--script train.py -- ARGS), or write a factory: train.py:build",
    )


def _found(first: _Reached, recording: ConstructionRecorder, calls: ForwardInputs) -> ReturnedParts:
    parts = replace(_setup(first.optimizer, first.seen, recording), span=first.span)
    if len(parts.models) == 1 and parts.example_inputs is None:
        parts.example_inputs = calls.of(next(iter(parts.models.values())))
    return parts


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


def _frameworks_watched(recording: ConstructionRecorder) -> contextlib.AbstractContextManager[None]:
    """Record what frameworks are given (Trainers, arguments, schedulers with their intervals), once they are imported."""

    def note(result: Any) -> None:
        with contextlib.suppress(returned.NotASetup):
            _, schedulers = parse_result(result)
            recording.scheduler_configs.update((id(scheduler), config) for scheduler, config in schedulers)

    def watch(module: ModuleType, stack: contextlib.ExitStack) -> None:
        watch_module(recording, stack, module)
        if module.__name__ in lightning.CONFIGURING:
            lightning.watch_configure(module, stack, note)

    return running.after_import([*OTHERS, *lightning.CONFIGURING], watch)


def _visible(frame: FrameType | None) -> Iterator[tuple[str, Any]]:
    """Names and values in sight of a call, innermost first: locals, the script's globals, what each ``self`` holds."""
    while frame is not None:
        if is_recorder(frame.f_code.co_filename):  # it stands between frames of the user's code
            frame = frame.f_back
            continue
        if str(frame.f_globals.get("__name__")).startswith("lrlint."):
            return
        yield from list(frame.f_locals.items())
        owner = frame.f_locals.get("self")
        if owner is not None and not isinstance(owner, (nn.Module, Optimizer)):
            yield from list(getattr(owner, "__dict__", {}).items())
        frame = frame.f_back


def _setup(stepping: Optimizer, seen: Seen, recording: ConstructionRecorder) -> ReturnedParts:
    trainer = running.trainer_of(stepping, seen)
    if trainer is not None:  # it knows what it trains, and how
        models = {"": trainer.lightning_module} if returned.is_lightning_trainer(trainer) else {}
        return ReturnedParts(models=models, trainer=trainer, batches=running.batch_of(seen), in_training=True)
    optimizers = _in_use(stepping, seen, [optimizer for optimizer, _ in recording.created_optimizers])
    held = set().union(*map(_held, optimizers))
    roots = model_parts.roots(seen)
    losses = [(n, m) for n, m, _ in roots if n in _LOSSES]
    candidates = [entry for entry in roots if entry[0] not in _LOSSES]
    trained = model_parts.trained(candidates, held) or model_parts.alike(candidates, _tensors(optimizers))
    if not trained:
        raise TargetError(
            "no model in sight holds the parameters that the script's first optimizer.step() trains",
            "write a factory that returns the model and its optimizer: train.py:build",
        )
    parts = ReturnedParts(models=_keyed(trained), in_training=True)
    parts.optimizers = _keyed([(_name_of(seen, optimizer), optimizer) for optimizer in optimizers])
    schedulers = _outermost([scheduler for scheduler, _ in recording.created_schedulers])
    parts.schedulers = running.with_wrappers(schedulers, seen)
    parts.extra_modules = {n: m for n, m in losses if any(True for _ in m.parameters())}
    parts.batches = running.batch_of(seen)
    parts.engine = running.engine_of(seen)
    scaler = next((value for _, value in seen if type(value).__name__ == "GradScaler"), None)
    parts.declared = {} if scaler is None else {"grad_scaler": scaler}
    return parts


def _in_use(stepping: Optimizer, seen: Seen, created: list[Any]) -> list[Any]:
    """The optimizers in sight, also inside a list, a dict or a wrapper; one that was built and dropped is not."""
    visible = {id(stepping)}
    for _, value in seen:
        for part in _parts(value):
            visible |= {id(part), id(getattr(part, "optimizer", None))} if returned.is_optimizer(part) else set()
    used = [optimizer for optimizer in created if id(optimizer) in visible] or [stepping]
    inner = {id(part) for optimizer in used for part in _inside(optimizer)}
    return [optimizer for optimizer in used if id(optimizer) not in inner]


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


def _tensors(optimizers: list[Any]) -> list[Any]:
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


def _held(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _name_of(seen: Seen, item: Any) -> str:
    """Its key in a dict of its kind, else the innermost name (which may be that of a loop over the dict)."""
    tables = [value for _, value in seen if type(value) is dict and all(map(returned.is_optimizer, value.values()))]
    for key in [key for table in tables for key, value in table.items() if value is item and isinstance(key, str)]:
        return key
    return next((name for name, value in seen if value is item and name != "self"), "")


def _names(seen: Seen, optimizer: Any) -> list[str]:
    """Everything that this optimizer (or a wrapper around it) is called in sight, the innermost name first."""
    names = []
    for name, value in seen:
        keys = value.items() if type(value) is dict else ()
        for called, item in [(name, value), *((key, item) for key, item in keys if isinstance(key, str))]:
            if (item is optimizer or getattr(item, "optimizer", None) is optimizer) and called != "self":
                names += [called] if returned.is_optimizer(item) else []
    return [*names, type(optimizer).__name__]


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
