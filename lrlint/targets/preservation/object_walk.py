"""Walk from models and optimizers to everything that the user's code can change, and remember what was there.

The walk follows references: attributes, slots, dicts, lists, sets, deques, closures, bound methods, tensors and their
gradients, the user's classes, and the global variables that the functions it meets name. It knows no optimizer and no
module class, so a class never seen before is kept as well as torch's own. Each object is visited once.

Not followed: Python modules, trainers, processes, compiled code, and what is data rather than state: the entries of large
containers, and large arrays and tensors, that only a data set holds.
"""

from __future__ import annotations

import array
import collections
import contextvars
import enum
import functools
import io
import logging
import random
import sys
import threading
import types
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

from lrlint.targets.preservation import code
from lrlint.targets.preservation.generators import generator_state
from lrlint.targets.preservation.iterators import Watched, is_position, parts
from lrlint.targets.preservation.records import (
    MISSING,
    Attributes,
    Cache,
    Cell,
    ClassAttributes,
    Contents,
    Globals,
    Record,
    Slots,
    State,
)

_ATOMIC = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(MISSING), range, slice, Watched}
    | {torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format}
)
_CONTAINERS = (dict, list, set, collections.deque)
_OPAQUE = (
    *(type, enum.Enum, weakref.ref, logging.Logger, logging.Handler, threading.Thread),
    *(types.ModuleType, types.BuiltinFunctionType, types.CodeType),
    torch.UntypedStorage,
)
_OPAQUE_PACKAGES = (
    *("torch._", "torch.fx.", "torch.distributed.", "torch.jit.", "torch.autograd.", "torch.utils.data."),
    *("torch.cuda.", "transformers.trainer", "lightning.fabric.", "lightning.pytorch.trainer", "datasets."),
    *("pytorch_lightning.trainer", "concurrent.", "multiprocessing.", "threading.", "_thread.", "asyncio."),
    *("logging.", "importlib.", "_frozen_"),
)
#: Followed whatever package they come from.
_ALWAYS = (nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler)
#: Where data lies: followed last, and not into its depths.
_DATA = (DataLoader, Dataset, Sampler)
#: Entries of a data set's container from which on it is data, and bytes of an array or tensor from which on it is.
_BULK, LARGE = 10_000, 1 << 20
#: Bytes of an array of a model from which on it is not copied.
_HUGE = 1 << 28
#: Followed where a function names a global variable, beside objects of classes of its own module.
_FROM_GLOBALS = (
    *(*_ALWAYS, *_DATA, torch.Tensor, torch.Generator, random.Random),
    *(collections.deque, collections.UserDict, collections.UserList, bytearray),
)
#: Entries of a global container from which on it is data.
_SMALL = 1000
#: Objects after which the walk gives up: the model holds a world.
_LIMIT = 3_000_000


class ObjectGraph:
    """What was found, each object once: ``records`` of Python state, ``iterators``, and all ``tensors`` met.

    ``data`` are tensors that only data sets hold. ``complete``: not more objects were met than the walk visits.
    """

    def __init__(self, roots: Iterable[Any], data: Iterable[Any] = ()) -> None:
        self.records: list[Record] = []
        self.tensors: list[torch.Tensor] = []
        self.data: list[torch.Tensor] = []
        self.iterators: list[Any] = []
        self.complete = True
        self._seen: dict[int, Any] = {}  # by id; the object is held so that its id stays its own
        self._stack: list[Any] = [*roots]
        self._later: list[Any] = []
        self._in_data = False
        # Caches that end with the walk: the user's classes are not kept alive.
        self._slots, self._is_from_opaque = functools.cache(_slots), functools.cache(_is_from_opaque)
        self._run()
        self._stack, self._later, self._in_data = [*self._later, *data], [], True
        self._run()

    @property
    def visited(self) -> Iterable[Any]:
        """All objects met."""
        return self._seen.values()

    def _run(self) -> None:
        while self._stack:
            item = self._stack.pop()
            if type(item) in _ATOMIC or id(item) in self._seen:
                continue
            if isinstance(item, _DATA) and not self._in_data:
                self._later.append(item)
                continue
            self._seen[id(item)] = item
            if len(self._seen) > _LIMIT:
                self.complete = False
                return
            with suppress(Exception):  # an object that cannot even be looked at (a proxy of nothing) is left out
                self._visit(item)

    def _visit(self, item: Any) -> None:
        if isinstance(item, torch.Tensor):
            self._tensor(item)
        elif isinstance(item, _CONTAINERS):
            contents = Contents(item)
            self.records.append(contents)
            self._push(contents.entries)
        elif isinstance(item, (tuple, frozenset)):
            self._push(item)
        elif (state := generator_state(item)) is not None:
            self.records.append(state)
        elif isinstance(item, (bytearray, array.array)):
            self.records.append(State(item[:], functools.partial(item.__setitem__, slice(None))))
        elif type(item).__module__.partition(".")[0] == "numpy":
            self._numpy(item)
        elif isinstance(item, (io.StringIO, io.BytesIO)):
            stream: Any = item
            self.records.append(State(stream.__getstate__(), stream.__setstate__))
            return
        elif isinstance(item, contextvars.ContextVar):
            self._context_variable(item)
            return
        elif isinstance(item, io.IOBase):
            self._file(item)
            return
        elif is_position(item):
            self.iterators.append(item)
            self._push(parts(item))
            return
        elif isinstance(item, threading.local):
            pass  # its attributes are those of this thread
        elif self._is_followed(item):
            self._function(item)
            self._class(type(item))
        else:
            return
        self._attributes(item)

    def _push(self, entries: Any) -> None:
        if not self._in_data or len(entries) <= _BULK:
            self._stack += entries

    def _is_followed(self, item: Any) -> bool:
        kind: Any = type(item)
        return isinstance(item, _ALWAYS) or not (isinstance(item, _OPAQUE) or self._is_from_opaque(kind))

    def _attributes(self, item: Any) -> None:
        attributes = getattr(item, "__dict__", None)
        if type(attributes) is dict:
            self.records.append(Attributes(item))
            self._stack += attributes.values()
        kind: Any = type(item)
        names = self._slots(kind)
        if names:
            slots = Slots(item, names)
            self.records.append(slots)
            self._stack += slots.values
        if isinstance(item, nn.Module):
            # A scripted module holds them out of Python's sight.
            self._stack += [*item.parameters(recurse=False), *item.buffers(recurse=False)]

    def _function(self, item: Any) -> None:
        """What a function holds on to: a hook's counters, a patched `step`, the criterion in a loss function."""
        if isinstance(item, types.FunctionType):
            self._globals(item)
            self._stack += [item.__defaults__, item.__kwdefaults__]
            for name, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
                if id(cell) not in self._seen:
                    self._seen[id(cell)] = cell
                    variable = Cell(cell, name)
                    self.records.append(variable)
                    self._stack.append(variable.value)
        elif isinstance(item, types.MethodType):
            self._stack += [item.__self__, item.__func__]
        elif isinstance(item, functools.partial):
            self._stack += [item.func, item.args, item.keywords]
        elif code.is_cache(item):
            self.records.append(Cache(item))
            self._stack += code.cached(item)

    def _globals(self, function: types.FunctionType) -> None:
        """What the function's code names in its module, and assigns there."""
        scope = function.__globals__
        for part in code.codes(function.__code__):
            named = {name: scope[name] for name in part.co_names if name in scope}
            kept = [name for name, value in named.items() if is_position(value)]
            if code.writes_globals(part):
                kept = list(part.co_names)
            if kept:
                self.records.append(Globals(scope, kept))
            self._stack += [value for value in named.values() if _is_state(value, scope)]

    def _class(self, kind: type) -> None:
        """The attributes of the user's classes, and what their methods name."""
        for base in kind.__mro__:
            if id(base) in self._seen or code.is_settled(base):
                continue
            self._seen[id(base)] = base
            attributes = ClassAttributes(base)
            self.records.append(attributes)
            for _, value in attributes.references():
                functions = code.functions_of(value)
                self._stack += functions or ((value,) if _is_own(value) else ())
            for name in ("__init__", "__call__", "__getitem__", "__iter__", "__len__", "__next__"):
                self._stack += code.functions_of(vars(base).get(name))

    def _tensor(self, item: torch.Tensor) -> None:
        (self.data if self._in_data else self.tensors).append(item)
        self._stack += inner_tensors(item)
        if item.is_leaf and item.grad is not None:
            self._stack.append(item.grad)

    def _numpy(self, item: Any) -> None:
        numpy = sys.modules["numpy"]
        if isinstance(item, numpy.ndarray):
            if item.flags.writeable and item.nbytes <= (LARGE if self._in_data else _HUGE):
                self.records.append(State(item.copy(), functools.partial(numpy.copyto, item)))
            if item.dtype.hasobject and item.size <= _BULK:
                self._stack += item.ravel().tolist()

    def _context_variable(self, item: contextvars.ContextVar[Any]) -> None:
        """Its value in this context. One that has none is left out: a value cannot be taken away again."""
        with suppress(LookupError):
            value = item.get()
            self.records.append(State(value, item.set))
            self._stack.append(value)

    def _file(self, item: Any) -> None:
        """How far a file has been read. Of one that is written nothing can be taken back."""
        try:
            if item.readable() and not item.writable() and item.seekable() and not item.isatty():
                self.records.append(State(item.tell(), item.seek))
        except (OSError, ValueError):  # closed, or in the middle of a line by line reading
            pass


def _is_state(value: Any, scope: dict[str, Any]) -> bool:
    """Whether a global variable may hold state: not the module's data, nor another module's business."""
    if isinstance(value, (list, dict, set)):
        return len(value) <= _SMALL
    if isinstance(value, types.FunctionType):
        return value.__globals__ is scope
    if isinstance(value, type):
        return False
    return (
        isinstance(value, _FROM_GLOBALS)
        or type(value).__module__ in (scope.get("__name__"), "numpy.random._generator", "numpy.random.mtrand")
        or is_position(value)
        or code.is_cache(value)
    )


def _is_own(value: Any) -> bool:
    """Whether the value of a class attribute can change by itself (and is no part of how the class works)."""
    return not isinstance(value, type) and not hasattr(type(value), "__get__") and not hasattr(type(value), "__set__")


def inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a wrapper subclass (DTensor, a quantized weight) consists of; none of an ordinary tensor."""
    if type(tensor) in (torch.Tensor, nn.Parameter) or not hasattr(tensor, "__tensor_flatten__"):
        return []
    names, _ = tensor.__tensor_flatten__()
    return [getattr(tensor, name) for name in names]


def _is_from_opaque(kind: type) -> bool:
    """Whether the class, or one it derives from (a Trainer of the user's), belongs to a package that is not followed."""
    modules = [f"{base.__module__}." for base in kind.__mro__]
    if issubclass(kind, _DATA):
        modules = [module for module in modules if not module.startswith("torch.utils.data.")]
    return any(module.startswith(_OPAQUE_PACKAGES) for module in modules)


def _slots(kind: type) -> tuple[str, ...]:
    """Names of the slots that the Python classes among a type's ancestors declare."""
    return tuple(dict.fromkeys(_slot_names(kind)))


def _slot_names(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        declared = vars(base).get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else declared:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            if isinstance(vars(base).get(name), types.MemberDescriptorType):
                yield name
