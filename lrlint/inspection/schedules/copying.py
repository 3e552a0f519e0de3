"""A scheduler on a stand-in of its optimizer: stepping the copy leaves the user's objects as they were.

Whatever the scheduler can change is copied: its own attributes, the variables its functions close over, the globals
they write or keep state in, and the optimizer it drives, whose parameters become one-element stand-ins. Modules and
tensors of the model are shared, never copied. ``copy.deepcopy`` serves neither end: it copies a model that a scheduler
refers to, and leaves closures shared.
"""

from __future__ import annotations

import contextlib
import copy
import dis
import enum
import functools
import io
import random
import sys
import types
import warnings
import weakref
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import torch
from torch.optim import Optimizer

#: More objects than this are a trainer or a data set that hangs on the scheduler, not the scheduler.
LIMIT = 50_000

#: A global container with more entries is data.
_SMALL = 1000

_SHARED = (
    *(type(None), bool, int, float, complex, str, bytes, type, range, enum.Enum, PurePath, torch.dtype, torch.device),
    *(types.ModuleType, types.BuiltinFunctionType, types.CodeType, weakref.ref, torch.nn.Module),
)
#: Small C objects with state of their own that copy.copy knows how to copy.
_COPYABLE = ("itertools", "_random", "random", "datetime", "decimal", "fractions", "numpy", "numpy.random")


class Uncopyable(Exception):
    """The scheduler holds something that cannot be stepped without changing the user's objects."""


class Isolation:
    """Copies objects onto stand-ins, each object once: what two schedulers share, their copies share too."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}
        self._originals: list[Any] = []  # held, so that no identity is used twice
        self._scopes: dict[int, dict[str, Any]] = {}  # globals of a module → their copy

    def copy(self, value: Any) -> Any:
        """The isolated counterpart of a value. Raises Uncopyable."""
        if isinstance(value, _SHARED):
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        if len(self._originals) > LIMIT:
            raise Uncopyable(f"it holds more than {LIMIT} objects")
        if isinstance(value, torch.Tensor):
            return self._note(value, _tensor(value))
        if isinstance(value, Optimizer):
            return self._optimizer(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return self._note(value, types.MethodType(self.copy(value.__func__), self.copy(value.__self__)))
        if isinstance(value, functools.partial):
            keywords = {key: self.copy(item) for key, item in value.keywords.items()}
            return self._note(value, functools.partial(self.copy(value.func), *map(self.copy, value.args), **keywords))
        if isinstance(value, (types.GeneratorType, types.CoroutineType)):
            raise Uncopyable("it holds a generator, whose position cannot be copied")
        return self._container(value) if isinstance(value, (list, dict, tuple, set, frozenset)) else self._object(value)

    def _note(self, original: Any, made: Any) -> Any:
        self._copies[id(original)] = made
        self._originals.append(original)
        return made

    def _container(self, value: Any) -> Any:
        if isinstance(value, dict):
            made = self._note(value, copy.copy(value))
            for key, item in value.items():
                dict.__setitem__(made, key, self.copy(item))
        elif isinstance(value, list):
            made = self._note(value, copy.copy(value))
            for index, item in enumerate(value):
                list.__setitem__(made, index, self.copy(item))
        elif isinstance(value, tuple):
            items = [self.copy(item) for item in value]
            made = self._note(value, type(value)(*items) if hasattr(value, "_fields") else tuple(items))
        else:
            made = self._note(value, type(value)(self.copy(item) for item in value))
        if type(value) not in (list, dict, tuple, set, frozenset):
            self._attributes(value, made)
        return made

    def _function(self, function: types.FunctionType) -> Any:
        """The function over copies of the variables it closes over, and of the globals that hold its state."""
        known = self._globals_of(function)
        if not function.__closure__ and not function.__defaults__ and not function.__kwdefaults__ and not known:
            return function
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        made = types.FunctionType(function.__code__, known or function.__globals__, function.__name__, None, cells)
        self._note(function, made)
        self._fill_globals(function)
        made.__defaults__ = None if function.__defaults__ is None else tuple(map(self.copy, function.__defaults__))
        made.__kwdefaults__ = {key: self.copy(item) for key, item in (function.__kwdefaults__ or {}).items()} or None
        made.__dict__.update({key: self.copy(item) for key, item in vars(function).items() if key != "__wrapped__"})
        made.__qualname__ = function.__qualname__
        for old, new in zip(function.__closure__ or (), cells, strict=True):
            with contextlib.suppress(ValueError):  # a variable that is not bound yet
                new.cell_contents = self.copy(old.cell_contents)
        return made

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any] | None:
        """A shallow copy of the module's globals, one per module, where the function could change what they hold."""
        scope = function.__globals__
        if id(scope) not in self._scopes:
            if not any(
                stores or _stateful(scope.get(name), scope) for name, stores in _global_names(function.__code__)
            ):
                return None
            self._scopes[id(scope)] = dict(scope)
        return self._scopes[id(scope)]

    def _fill_globals(self, function: types.FunctionType) -> None:
        """Isolate the state among the globals that the function names; what is too large to be a state is shared."""
        scope = function.__globals__
        for name, _ in _global_names(function.__code__) if id(scope) in self._scopes else ():
            if _stateful(value := scope.get(name), scope):
                self._scopes[id(scope)][name] = self.copy(value)

    def _cell(self, cell: types.CellType) -> types.CellType:
        copied: types.CellType = self._copies.get(id(cell)) or self._note(cell, types.CellType())
        return copied

    def _object(self, value: Any) -> Any:
        cls: Any = type(value)
        if (generator := _generator(value)) is not None:
            return self._note(value, generator)
        if cls.__module__.split(".", 1)[0] in ("threading", "_thread", "_io", "socket"):
            return value
        if not hasattr(value, "__dict__") and not _slots(cls):
            return self._note(value, copy.copy(value) if cls.__module__ in _COPYABLE else value)
        try:
            made = copy.copy(value) if cls.__module__ in _COPYABLE else cls.__new__(cls)
        except Exception:  # a constructor with demands of its own: only the user's class knows how to make one
            return self._note(value, value)
        self._note(value, made)
        self._attributes(value, made)
        return made

    def _attributes(self, value: Any, made: Any) -> None:
        for key, item in getattr(value, "__dict__", {}).items():
            made.__dict__[key] = self.copy(item)
        for name in _slots(type(value)):
            with contextlib.suppress(AttributeError):
                object.__setattr__(made, name, self.copy(getattr(value, name)))

    def _optimizer(self, optimizer: Optimizer) -> Any:
        """An optimizer of the same class with the same options, one-element parameters and no state."""
        made: Any = object.__new__(type(optimizer))
        self._note(optimizer, made)
        groups = vars(optimizer).get("param_groups")
        if isinstance(groups, list):
            made.__dict__["param_groups"] = self._groups(groups)
        for key, item in vars(optimizer).items():
            if key not in ("param_groups", "state", "step"):
                made.__dict__[key] = self.copy(item)
        if "state" in vars(optimizer):
            made.__dict__["state"] = defaultdict(dict)
        # Torch's schedulers mark the step method when built, and warn unless a step was taken.
        made.__dict__["step"] = _no_step()
        made.__dict__["_opt_called"] = True
        return made

    def _groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Wrappers hold the list, or the groups, of the optimizer inside: their stand-ins hold the same ones too."""
        known: list[dict[str, Any]] | None = self._copies.get(id(groups))
        if known is None:
            known = self._note(groups, [])
            known.extend(self._group(group) for group in groups)
        return known

    def _group(self, group: dict[str, Any]) -> dict[str, Any]:
        if id(group) in self._copies:
            known: dict[str, Any] = self._copies[id(group)]
            return known
        made: dict[str, Any] = self._note(group, {})
        made.update({key: self.copy(item) for key, item in group.items() if key not in ("params", "param_names")})
        made["params"] = [torch.nn.Parameter(torch.zeros(1))]
        return made


def _global_names(code: types.CodeType) -> Iterator[tuple[str, bool]]:
    """Global names that the code and the functions inside it use, and whether they are assigned."""
    for instruction in dis.get_instructions(code):
        if "GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME":
            yield str(instruction.argval), "STORE" in instruction.opname
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _global_names(inner)


def _stateful(value: Any, scope: dict[str, Any]) -> bool:
    """Whether a global may hold the state of a schedule: a small container or record, an optimizer, such a function."""
    if isinstance(value, (list, dict, set)):
        return len(value) <= _SMALL
    if isinstance(value, types.FunctionType):
        return value.__globals__ is scope
    own = type(value).__module__ == scope.get("__name__") and hasattr(value, "__dict__")
    record = own and not isinstance(value, _SHARED) and all(isinstance(v, _SHARED) for v in vars(value).values())
    return record or isinstance(value, Optimizer)


def _tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A rate kept as a tensor is copied (schedulers write it in place); parameters and data are shared."""
    if tensor.requires_grad or tensor.numel() != 1 or tensor.is_meta:
        return tensor
    return tensor.detach().cpu().clone()


def _generator(value: Any) -> Any:
    """A random generator in the same state; None for anything else. `copy.copy` would share what it draws from."""
    if isinstance(value, torch.Generator):
        return torch.Generator(value.device).set_state(value.get_state())
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and isinstance(value, (numpy.Generator, numpy.RandomState, numpy.BitGenerator)):
        return copy.deepcopy(value)
    return None


def _slots(cls: type) -> list[str]:
    declared = [vars(base).get("__slots__", ()) for base in cls.__mro__]
    names = [name for slots in declared for name in ((slots,) if isinstance(slots, str) else slots)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _no_step() -> Any:
    def step(*_: Any, **__: Any) -> None:
        """The stand-in has nothing to train."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    step._with_counter = True  # type: ignore[attr-defined]  # the name of the mark before torch 2.5
    return step


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run a scheduler without a trace: prints, warnings and the state of the random generators are put back."""
    state = random.getstate()
    numpy_random = getattr(sys.modules.get("numpy"), "random", None)
    numpy_state = numpy_random.get_state() if numpy_random is not None else None
    try:
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
        if numpy_random is not None:
            numpy_random.set_state(numpy_state)
