"""Modules, averages of weights and variables that steps are watched with."""

from __future__ import annotations

import gc
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lrlint.facts import Span
from lrlint.rehearsal.recorder import Recorder

_AVERAGE = re.compile(r"(^|_)ema(_|$|[A-Z])|EMA|Ema(?![a-z])|Averag|Shadow")
_NO_AVERAGE = ("Callback", "Meter", "Metric", "AveragePool", "Hook", "Config", "Args")
_UPDATES = re.compile(r"(update|step|on_|__call__|after|average|ema)")
_RATE = re.compile(r"(^|_)(lr|learning_rate)$")
#: Optimizers whose modules are looked up.
_MOST_LOOKUPS = 64
#: Tensors of one average that are compared.
_MOST_TENSORS = 400


@dataclass
class Average:
    """Something that is named like an average of the weights, with its tensors as they were before the first step."""

    class_name: str
    span: Span | None
    holders: list[tuple[Any, Any]]
    before: list[tuple[int, int]]
    called: bool = False

    def moved(self) -> bool:
        return self.called or _states(self.holders) != self.before


@dataclass
class Variable:
    """A variable that is named like a rate, and its values beside the rates that steps had, in order."""

    span: Span
    scope: Any
    name: str
    values: list[float] = field(default_factory=list)
    rates: list[tuple[float, ...]] = field(default_factory=list)
    optimizer: Any = None  # the one that stepped last


class Modules:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: list[weakref.ref[nn.Module]] = []  # a set would hash them, as torchmetrics do by their state
        self._owners: dict[int, list[nn.Module]] = {}  # by id of the optimizer
        self._switching = 0
        self._frozen: list[nn.Module] = []  # norms put into evaluation mode one by one, before the first step
        self.train_span: Span | None = None
        self.averages: list[Average] = []
        self.variables: dict[tuple[str, str], Variable] = {}
        self._scanned = False

    def built(self, original: Callable[..., None]) -> Callable[..., None]:
        """A constructor (or `__setstate__`, of copies) of modules that notes each of them."""

        def construct(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            original(module, *args, **kwargs)
            self._known.append(weakref.ref(module))

        return construct

    def _all(self) -> list[nn.Module]:
        modules = [module for reference in self._known if (module := reference()) is not None]
        return [module for module in modules if "_parameters" in vars(module)]

    # -- modes -----------------------------------------------------------------------------------------------------

    def switched(self, original: Callable[..., Any], module: nn.Module, mode: bool) -> Any:
        """`module.train(mode)`; the calls that it makes for its children are not of the script's."""
        self._switching += 1
        try:
            result = original(module, mode)
        finally:
            self._switching -= 1
        recorder = self._recorder
        if not self._switching and not recorder.off:
            with recorder.own():
                span, _ = recorder.where()
                if mode:
                    self.train_span = span
                elif not recorder.steps and _is_norm(module) and not any(m is module for m in self._frozen):
                    self._frozen.append(module)
                if len(recorder.events) < 20_000:
                    recorder.emit("train" if mode else "eval", what=type(module).__name__)
        return result

    def modes(self, optimizer: Any, parameters: list[torch.Tensor]) -> tuple[int, int]:
        """How many modules that own the optimizer's parameters train, and how many are in evaluation mode."""
        owners = self._owners.get(id(optimizer))
        if owners is None:
            if len(self._owners) >= _MOST_LOOKUPS:
                return 0, 0
            identities = {id(p) for p in parameters}
            owners = [m for m in self._all() if any(id(p) in identities for p in m._parameters.values())]
            self._owners[id(optimizer)] = owners
        on = sum(module.training for module in owners)
        return on, len(owners) - on

    def evaluated(self, leaves: list[int]) -> list[int]:
        """Those of the leaves that belong to modules in evaluation mode, in the first backward passes."""
        if self._recorder.backward > 3:
            return []
        number_of = {id(tensor): number for number, tensor in self._recorder.ledger.alive()}
        chosen, ordered = set(leaves), []
        for module in self._all():
            if not module.training:
                numbers = [number_of.get(id(p)) for p in module._parameters.values() if p is not None]
                ordered += [number for number in numbers if number in chosen and number is not None]
        return ordered

    def unfrozen(self) -> int:
        """How many of the norms that were put into evaluation mode one by one train again."""
        return sum(module.training for module in self._frozen)

    # -- averages --------------------------------------------------------------------------------------------------

    def at_step(self) -> None:
        """Before the first step: what looks like an average of the weights."""
        if self._scanned:
            return
        self._scanned = True
        kinds: dict[type, bool] = {}
        for item in gc.get_objects():
            kind = type(item)
            if kind not in kinds:
                kinds[kind] = _is_average(kind)
            if kinds[kind]:
                self._average(item)

    def _average(self, item: Any) -> None:
        holders = [
            (holder, key) for holder, key in _tensors(item) if not self._recorder.ledger.knows(_get(holder, key))
        ]
        if not holders:
            return
        holders = holders[:_MOST_TENSORS]
        average = Average(type(item).__name__, None, holders, _states(holders))
        self.averages.append(average)
        for cls in type(item).__mro__:
            for name, function in list(vars(cls).items()):
                if cls is not nn.Module and isinstance(function, types.FunctionType) and _UPDATES.match(name):
                    setattr(cls, name, _noting(function, item, average))

    # -- variables -------------------------------------------------------------------------------------------------

    def watch_variables(self, optimizer: Any, rates: list[float]) -> None:
        """Variables of the user's that are named like a rate, as they are at this step."""
        frame: Any = sys._getframe(2)
        project = self._recorder.project
        while frame is not None:
            path = frame.f_code.co_filename
            if project.owns(path):
                scopes = [frame.f_locals, *([frame.f_globals] if frame.f_locals is not frame.f_globals else [])]
                for scope in scopes:
                    for name, value in list(scope.items()):
                        if isinstance(value, float) and _RATE.search(name):
                            known = self.variables.get((path, name))
                            if known is None:
                                known = Variable(project.frame_span(frame), scope, name)
                                self.variables[path, name] = known
                            known.scope, known.optimizer = scope, optimizer
                            known.values.append(value)
                            known.rates.append(tuple(rates))
            frame = frame.f_back


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and not any(True for _ in module.children())


def _is_average(kind: type) -> bool:
    if issubclass(kind, (Optimizer, type, types.ModuleType)) or kind.__name__.endswith(_NO_AVERAGE):
        return False
    if kind.__name__.startswith(_NO_AVERAGE[3:]) or "Pool" in kind.__name__ or "Loss" in kind.__name__:
        return False
    return _AVERAGE.search(kind.__name__) is not None


def _tensors(item: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of the floating point tensors that an object keeps: modules, tables and lists of it."""
    try:
        own = object.__getattribute__(item, "__dict__")
    except AttributeError:
        return
    if not isinstance(own, dict):
        return
    for value in [*list(own.values()), own.get("_modules")]:
        if isinstance(value, nn.Module):
            yield from ((value, name) for name, _ in value.named_parameters())
        elif isinstance(value, dict):
            yield from ((value, key) for key, entry in value.items() if _is_float(entry))
            for entry in value.values():
                if isinstance(entry, nn.Module):
                    yield from ((entry, name) for name, _ in entry.named_parameters())
        elif isinstance(value, (list, tuple)):
            yield from ((value, position) for position, entry in enumerate(value) if _is_float(entry))


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _get(holder: Any, key: Any) -> Any:
    return holder.get_parameter(key) if isinstance(holder, nn.Module) else holder[key]


def _states(holders: list[tuple[Any, Any]]) -> list[tuple[int, int]]:
    states = []
    for holder, key in holders:
        try:
            tensor = _get(holder, key)
        except (AttributeError, LookupError):  # it was replaced as a whole
            states.append((0, 0))
            continue
        states.append((id(tensor), tensor._version))
    return states


def _noting(function: Any, item: Any, average: Average) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is item:
            average.called = True
        return function(self, *args, **kwargs)

    return call
