"""Recorders on torch's own classes and functions, for the time of a rehearsal."""

from __future__ import annotations

import functools
import math
import os
import sys
import types
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.autograd.graph
import torch.multiprocessing
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from lrlint.rehearsal.graphs import Graphs
from lrlint.rehearsal.loops import frames_of, passes
from lrlint.rehearsal.modules import Modules
from lrlint.rehearsal.recorder import MOST_BACKWARD, Recorder, rates_of


class Patches:
    """Everything that is replaced while the script runs; closing the stack puts it back."""

    def __init__(self, recorder: Recorder, modules: Modules, stack: ExitStack) -> None:
        self._recorder, self._modules, self._stack = recorder, modules, stack
        self._graphs = Graphs(recorder)
        self._building = 0
        self._scheduling: list[Any] = []
        self._before_step: list[tuple[Any, list[int]]] = []

    def install(self) -> None:
        """Patch torch. Modules of the user's that are imported later find the patched names."""
        self._optimizers()
        self._functions()
        for name in ("scale", "unscale_", "step", "update"):
            self._replace(torch.amp.GradScaler, name, functools.partial(self._scaler, name))
        for cls in {c for c in vars(lr_scheduler).values() if isinstance(c, type) and "__init__" in vars(c)}:
            if issubclass(cls, lr_scheduler.LRScheduler):
                self._replace(cls, "__init__", self._scheduler_built)
        self._replace(nn.Module, "train", self._train)
        self._replace(nn.Module, "__init__", self._modules.built)
        self._replace(nn.Module, "__setstate__", self._modules.built)
        self._replace(DataLoader, "__init__", _without_workers)
        self._replace(DataLoader, "__iter__", lambda original: passes(self._recorder.loops, original))
        self._set(torch, "compile", _uncompiled)
        self._set(nn.Module, "compile", lambda self, *_, **__: None)

    # -- optimizers ------------------------------------------------------------------------------------------------

    def _optimizers(self) -> None:
        self._replace(Optimizer, "__init__", self._optimizer_built)
        self._replace(Optimizer, "zero_grad", self._zero_grad)
        for handle in (
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ):
            self._stack.callback(handle.remove)

    def _optimizer_built(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            with self._recorder.own() as on:
                if on:
                    self._recorder.optimizer(optimizer)

        return __init__

    def _zero_grad(self, original: Callable[..., None]) -> Callable[..., None]:
        def zero_grad(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            with self._recorder.own() as on:
                if on:
                    self._recorder.look()
            original(optimizer, *args, **kwargs)
            with self._recorder.own() as on:
                if on:
                    self._recorder.look()
                    self._recorder.emit("zero_grad", optimizer=self._recorder.optimizer(optimizer))

        return zero_grad

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        recorder = self._recorder
        with recorder.own() as on:
            if not on:
                return
            recorder.look(values=True, skip_moved=bool(recorder.stepping))
            self._modules.at_step()
            if any(known is optimizer for known in recorder.stepping):  # its last step raised
                recorder.stepping.clear()
                self._before_step.clear()
            recorder.stepping.append(optimizer)
            held = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self._before_step.append((optimizer, recorder.ledger.numbers(held)))

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        recorder = self._recorder
        with recorder.own() as on:
            if not on or not recorder.stepping:
                return
            while recorder.stepping.pop() is not optimizer and recorder.stepping:
                pass  # the step of an inner optimizer raised
            held: list[int] = []
            while self._before_step:
                known, held = self._before_step.pop()
                if known is optimizer:
                    break
            closure = bool(args[1] if len(args) > 1 else kwargs.get("closure"))
            if closure:
                now = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                held = recorder.ledger.numbers(now)
            number = recorder.optimizer(optimizer)
            changes = recorder.ledger.look(values=True)
            everything = [p for group in optimizer.param_groups for p in group["params"]]
            recorder.emit(
                "step",
                optimizer=number,
                closure=closure,
                guards=recorder.guards(),
                held=held,
                all=recorder.ledger.numbers(everything),
                moved=changes.moved,
                rates=rates_of(optimizer),
                modes=self._modules.modes(optimizer, everything),
                unfrozen=self._modules.unfrozen(),
                scheduled=self._scheduled(optimizer),
                free=optimizer.param_groups[0].get("train_mode") if optimizer.param_groups else None,
            )
            if changes.cleared:
                recorder.emit("clear", tensors=changes.cleared)
            self._modules.watch_variables(optimizer, rates_of(optimizer))
        if on:
            recorder.finished_step(frames_of(sys._getframe(1)))

    def _scheduled(self, optimizer: Any) -> list[tuple[int, float, float]]:
        """(scheduler, its rate of a parameter, the rate this optimizer steps it with) where they differ."""
        recorder, apart_from = self._recorder, []
        mine = {id(p): g["lr"] for g in optimizer.param_groups if "lr" in g for p in g["params"]}
        for number, scheduler in enumerate(recorder.schedulers):
            drives: Any = getattr(scheduler, "optimizer", None)
            if drives is optimizer or not hasattr(drives, "param_groups"):
                continue
            pairs = [
                (float(g["lr"]), float(mine[id(p)]))
                for g in drives.param_groups
                if "lr" in g
                for p in g["params"]
                if id(p) in mine
            ]
            apart = [(a, b) for a, b in pairs if abs(a - b) > 1e-6 * max(abs(a), abs(b), 1e-12)]
            if apart:
                apart_from.append((number, *apart[0]))
        return apart_from

    # -- backward --------------------------------------------------------------------------------------------------

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            recorder = self._recorder
            if recorder.off or recorder.in_backward or not kwargs.get("accumulate_grad", True):
                return original(outputs, *args, **kwargs)
            with recorder.own():
                recorder.look(values=True)
                known = self._graphs.of(outputs)
                off = self._modules.evaluated(known["leaves"])
            recorder.in_backward += 1
            try:
                result = original(outputs, *args, **kwargs)
            finally:
                recorder.in_backward -= 1
            with recorder.own():
                changes = recorder.ledger.look(values=True, backward=True)
                recorder.backward += 1
                facts = {key: value for key, value in known.items() if key != "leaves"}
                number = recorder.backward
                got, moved = changes.got, changes.moved
                recorder.emit("backward", number=number, got=got, moved=moved, evaluated=off, **facts)
                value = known["value"]
                if value is not None and not math.isfinite(value) and recorder.non_finite is None:
                    recorder.non_finite = recorder.steps
            if recorder.backward >= MOST_BACKWARD and not recorder.steps:
                recorder.stop(f"{MOST_BACKWARD} backward passes without a step")
            return result

        return run

    # -- the rest --------------------------------------------------------------------------------------------------

    def _clip(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            if self._recorder.off:
                return original(parameters, *args, **kwargs)
            if not isinstance(parameters, torch.Tensor):
                parameters = list(parameters)
            ledger = self._recorder.ledger
            with self._recorder.own():
                self._recorder.look(values=True)
                every = [parameters] if isinstance(parameters, torch.Tensor) else parameters
                numbers = ledger.numbers(every)
                held = ledger.numbers(p for p in every if p.grad is not None)
            result = original(parameters, *args, **kwargs)
            with self._recorder.own():
                ledger.look()
                argument = args[0] if args else kwargs.get("max_norm", kwargs.get("clip_value"))
                limit = float(argument) if isinstance(argument, (int, float, torch.Tensor)) else None
                self._recorder.emit("clip", how=name, tensors=numbers, held=held, limit=limit)
            return result

        return clip

    def _scaler(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            with self._recorder.own() as on:
                if on and name != "scale":
                    self._recorder.look()
            if name == "step":  # the step itself is an event that comes before
                self._emit_scaler(name, scaler, args, kwargs)
            result = original(scaler, *args, **kwargs)
            if name == "unscale_":
                with self._recorder.own() as on:
                    if on:
                        self._recorder.ledger.look()
            if name != "step":
                self._emit_scaler(name, scaler, args, kwargs)
            return result

        return call

    def _emit_scaler(self, name: str, scaler: Any, args: Any, kwargs: Any) -> None:
        with self._recorder.own() as on:
            if on:
                optimizer = args[0] if args else kwargs.get("optimizer")
                known = isinstance(optimizer, Optimizer) and hasattr(optimizer, "param_groups")
                number = self._recorder.optimizer(optimizer) if known else None
                self._recorder.emit(f"scaler.{name}", scaler=id(scaler), optimizer=number)

    def _scheduler_built(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(scheduler: Any, *args: Any, **kwargs: Any) -> None:
            self._building += 1
            try:
                original(scheduler, *args, **kwargs)
            finally:
                self._building -= 1
            with self._recorder.own() as on:
                if on:
                    self._recorder.scheduler(scheduler)
            for cls in type(scheduler).__mro__:
                if "step" in vars(cls) and not getattr(vars(cls)["step"], "_lrlint", False):
                    self._replace(cls, "step", self._scheduler_step)

        return __init__

    def _scheduler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            nested, again = bool(self._scheduling), any(s is scheduler for s in self._scheduling)
            self._scheduling.append(scheduler)
            try:
                result = original(scheduler, *args, **kwargs)
            finally:
                self._scheduling.pop()
            with self._recorder.own() as on:
                if on and not again and not self._building:
                    number, guards = self._recorder.scheduler(scheduler), self._recorder.guards()
                    self._recorder.emit("scheduler_step", scheduler=number, nested=nested, guards=guards)
            return result

        return step

    def _train(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train(module: nn.Module, mode: bool = True) -> Any:
            return self._modules.switched(original, module, mode)

        return train

    def _save(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save(*args: Any, **kwargs: Any) -> Any:
            with self._recorder.own() as on:
                if on:
                    groups = [o.param_groups[0] for o in self._recorder.optimizers if getattr(o, "param_groups", None)]
                    self._recorder.emit("save", free=any(group.get("train_mode") is True for group in groups))
            return original(*args, **kwargs)

        return save

    # -- replacing -------------------------------------------------------------------------------------------------

    def _replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        original = vars(owner)[name]
        patched: Any = functools.wraps(original)(wrap(original))
        patched._lrlint = True
        self._set(owner, name, patched)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        original = vars(owner)[name]
        setattr(owner, name, value)
        self._stack.callback(setattr, owner, name, original)

    def _functions(self) -> None:
        """Replace functions in every module that has them by name."""
        wrapped: dict[Any, Callable[[Any], Any]] = {
            torch.autograd.graph._engine_run_backward: self._backward,
            nn.utils.clip_grad_norm_: functools.partial(self._clip, "clip_grad_norm_"),
            nn.utils.clip_grad_value_: functools.partial(self._clip, "clip_grad_value_"),
            torch.save: self._save,
        }
        patched = {id(original): functools.wraps(original)(wrap(original)) for original, wrap in wrapped.items()}
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", None)
            if isinstance(module, types.ModuleType) and isinstance(names, dict):
                for name, value in [(name, value) for name, value in list(names.items()) if id(value) in patched]:
                    self._set(module, name, patched[id(value)])


def _uncompiled(model: Any = None, *_: Any, **__: Any) -> Any:
    """`torch.compile` that compiles nothing: what it gives has the names of a compiled module (``_orig_mod.``)."""
    if model is None:
        return _uncompiled
    if not isinstance(model, nn.Module):
        return model
    from torch._dynamo.eval_frame import DisableContext, OptimizedModule

    return OptimizedModule(model, DisableContext())


def _without_workers(original: Callable[..., None]) -> Callable[..., None]:
    """Batches are made in this process: a worker that was forked from a recorded process would only cost time."""

    def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > 5:  # (dataset, batch_size, shuffle, sampler, batch_sampler, num_workers, ...)
            args = (*args[:5], 0, *args[6:])
        elif kwargs.get("num_workers"):
            kwargs["num_workers"] = 0
        for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context", "timeout"):
            kwargs.pop(name, None)
        original(loader, *args, **kwargs)

    return __init__


def leave(code: int = 0) -> None:
    """End this process now, whatever the script's handlers would do."""
    os._exit(code)
