"""Walk from models and optimizers to everything that a training step can change, and remember what was there.

The walk follows references: attributes, slots, dicts, lists, sets, deques, closures, bound methods, tensors and their
gradients. It knows no optimizer and no module class, so a class never seen before is kept as well as torch's own. Each
object is visited once and gives at most a few records; a record puts its object back *in place* and writes only where
something differs, so what a step left alone is not touched.

Not followed: Python modules and classes, data sets and loaders, trainers, processes, files, compiled code. Python
iterators and generators cannot be wound back.
"""

from __future__ import annotations

import collections
import enum
import functools
import io
import logging
import random
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

_MISSING = object()
_ATOMIC = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), range, slice}
    | {torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format}
)
_OPAQUE = (
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.CodeType,
    types.GeneratorType,
    enum.Enum,
    weakref.ref,
    logging.Logger,
    logging.Handler,
    threading.Thread,
    io.IOBase,
    DataLoader,
    Dataset,
    Sampler,
    torch.UntypedStorage,
)
_OPAQUE_PACKAGES = (
    *("torch._", "torch.fx.", "torch.distributed.", "torch.jit.", "torch.autograd.", "torch.utils.data.", "torch.cuda."),
    *("transformers.trainer", "lightning.pytorch.trainer", "pytorch_lightning.trainer", "lightning.fabric.", "datasets."),
    *("concurrent.", "multiprocessing.", "threading", "_thread", "asyncio.", "logging", "importlib.", "_frozen_"),
)
#: Followed whatever package they come from.
_ALWAYS = (nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler)


class Record(Protocol):
    """One thing remembered; `restore` puts it back in place."""

    def restore(self) -> None: ...


class Walk:
    """What was found: ``records`` of Python state, and every ``tensors`` object met (by identity, in order)."""

    def __init__(self, roots: Iterable[Any]) -> None:
        self.records: list[Record] = []
        self.tensors: list[torch.Tensor] = []
        self._seen: dict[int, Any] = {}  # id -> the object, held so that the id stays its own
        self._stack: list[Any] = []
        for root in roots:
            self._root(root)
            self._run()

    def _root(self, root: Any) -> None:
        if isinstance(root, DataLoader):
            # The data stays out of it; what decides the order of the data does not.
            self._stack += [root.generator, *_attributes(root.sampler), *_attributes(root.batch_sampler)]
        elif isinstance(root, Sampler):
            self._stack += _attributes(root)
        else:
            self._stack.append(root)

    def _run(self) -> None:
        while self._stack:
            item = self._stack.pop()
            kind = type(item)
            if kind in _ATOMIC or id(item) in self._seen:
                continue
            self._seen[id(item)] = item
            self._visit(item)

    def _visit(self, item: Any) -> None:
        if isinstance(item, torch.Tensor):
            self._tensor(item)
        elif isinstance(item, dict):
            self._keep(Contents(item, list(item.items()), _pairs, _refill_dict))
            self._object(item)
        elif isinstance(item, list):
            self._keep(Contents(item, list(item), list, _refill_list))
            self._object(item)
        elif isinstance(item, (set, collections.deque)):
            self._keep(Contents(item, list(item), list, _refill_other))
            self._object(item)
        elif isinstance(item, (tuple, frozenset)):
            self._stack += item
            self._object(item)
        elif isinstance(item, torch.Generator):
            self.records.append(State(item.get_state().clone(), item.set_state))
        elif isinstance(item, random.Random):
            self.records.append(State(item.getstate(), item.setstate))
        elif _is_numpy(item):
            self._numpy(item)
        elif _followed(item):
            self._function(item)
            self._object(item)

    def _keep(self, record: Contents) -> None:
        self.records.append(record)
        for entry in record.entries:
            self._stack += entry if type(entry) is tuple and record.paired else (entry,)

    def _object(self, item: Any) -> None:
        """Attributes of an object: its ``__dict__`` and its slots."""
        attributes = getattr(item, "__dict__", None)
        if type(attributes) is dict:
            self.records.append(Attributes(item))
            self._stack += attributes.values()
        slots = _slots(type(item))
        if slots:
            record = Slots(item, slots)
            self.records.append(record)
            self._stack += [value for value in record.values if value is not _MISSING]
        if isinstance(item, nn.Module):
            # Scripted modules hold theirs out of Python's sight.
            self._stack += [*item.parameters(recurse=False), *item.buffers(recurse=False)]

    def _function(self, item: Any) -> None:
        """What a function holds on to: a hook's counters, a patched `step`, the loss's criterion."""
        if isinstance(item, types.FunctionType):
            for cell in item.__closure__ or ():
                if id(cell) not in self._seen:
                    self._seen[id(cell)] = cell
                    record = Cell(cell)
                    self.records.append(record)
                    self._stack.append(record.value)
        elif isinstance(item, types.MethodType):
            self._stack += [item.__self__, item.__func__]
        elif isinstance(item, functools.partial):
            self._stack += [item.func, *item.args, item.keywords]

    def _tensor(self, item: torch.Tensor) -> None:
        self.tensors.append(item)
        inner = inner_tensors(item)
        if inner:
            self._stack += inner
        if item.is_leaf and item.grad is not None:
            self._stack.append(item.grad)
        self._object(item)

    def _numpy(self, item: Any) -> None:
        numpy = sys.modules["numpy"]
        if isinstance(item, numpy.ndarray):
            if item.flags.writeable:
                self.records.append(State(item.copy(), functools.partial(numpy.copyto, item)))
        elif isinstance(item, numpy.random.RandomState):
            self.records.append(State(item.get_state(), item.set_state))
        elif isinstance(item, numpy.random.Generator):
            bits = item.bit_generator
            self.records.append(State(bits.state, functools.partial(setattr, bits, "state")))


class Contents:
    """The items of a dict, list, set or deque, compared by identity."""

    __slots__ = ("_read", "_refill", "entries", "item", "paired")

    def __init__(
        self,
        item: Any,
        entries: list[Any],
        read: Callable[[Any], list[Any]],
        refill: Callable[[Any, list[Any]], None],
    ) -> None:
        self.item, self.entries, self._read, self._refill = item, entries, read, refill
        self.paired = isinstance(item, dict)

    def restore(self) -> None:
        now = self._read(self.item)
        if len(now) == len(self.entries):
            if self.paired:
                if all(a[0] is b[0] and a[1] is b[1] for a, b in zip(now, self.entries, strict=True)):
                    return
            elif all(a is b for a, b in zip(now, self.entries, strict=True)):
                return
        self._refill(self.item, self.entries)


class Attributes:
    """The class and the ``__dict__`` of an object."""

    __slots__ = ("_class", "_dict", "_entries", "item")

    def __init__(self, item: Any) -> None:
        self.item = item
        self._class = type(item)
        self._dict = item.__dict__
        self._entries = list(self._dict.items())

    def restore(self) -> None:
        if type(self.item) is not self._class:
            self.item.__class__ = self._class
        now = self.item.__dict__
        if len(now) == len(self._entries) and all(
            a is c and b is d for (a, b), (c, d) in zip(now.items(), self._entries, strict=True)
        ):
            return
        now.clear()
        now.update(self._entries)


class Slots:
    """The values of an object's ``__slots__``."""

    __slots__ = ("_names", "item", "values")

    def __init__(self, item: Any, names: tuple[str, ...]) -> None:
        self.item, self._names = item, names
        self.values = [getattr(item, name, _MISSING) for name in names]

    def restore(self) -> None:
        for name, value in zip(self._names, self.values, strict=True):
            if getattr(self.item, name, _MISSING) is value:
                continue
            if value is _MISSING:
                object.__delattr__(self.item, name)
            else:
                object.__setattr__(self.item, name, value)


class Cell:
    """A variable that a function shares with its surroundings."""

    __slots__ = ("cell", "value")

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell
        try:
            self.value = cell.cell_contents
        except ValueError:  # not assigned yet
            self.value = _MISSING

    def restore(self) -> None:
        if self.value is not _MISSING and self.cell.cell_contents is not self.value:
            self.cell.cell_contents = self.value


class State:
    """A value that a setter takes back: the state of a random generator, the contents of an array."""

    __slots__ = ("_set", "_value")

    def __init__(self, value: Any, set_: Callable[[Any], Any]) -> None:
        self._value, self._set = value, set_

    def restore(self) -> None:
        self._set(self._value)


def inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors a wrapper subclass (DTensor, a quantized weight) consists of; none for an ordinary tensor."""
    if type(tensor) in (torch.Tensor, nn.Parameter) or not hasattr(tensor, "__tensor_flatten__"):
        return []
    names, _ = tensor.__tensor_flatten__()
    return [getattr(tensor, name) for name in names]


def _followed(item: Any) -> bool:
    if isinstance(item, _ALWAYS):
        return True
    if isinstance(item, _OPAQUE):
        return False
    module = getattr(type(item), "__module__", "") or ""
    return not f"{module}.".startswith(_OPAQUE_PACKAGES)


def _is_numpy(item: Any) -> bool:
    return type(item).__module__.split(".")[0] == "numpy"


def _attributes(item: Any) -> list[Any]:
    return [] if item is None else list(getattr(item, "__dict__", {}).values())


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    """Names of the slots that Python classes of this ancestry declare."""
    return tuple(dict.fromkeys(_slot_names(kind)))


def _slot_names(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        declared = base.__dict__.get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else declared:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            if isinstance(base.__dict__.get(name), types.MemberDescriptorType):
                yield name


def _pairs(item: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return list(item.items())


def _refill_dict(item: dict[Any, Any], entries: list[Any]) -> None:
    # The base class's own methods: a subclass may check, convert or report what is written to it.
    base: Any = collections.OrderedDict if isinstance(item, collections.OrderedDict) else dict
    base.clear(item)
    for key, value in entries:
        base.__setitem__(item, key, value)


def _refill_list(item: list[Any], entries: list[Any]) -> None:
    list.__setitem__(item, slice(None), entries)


def _refill_other(item: Any, entries: list[Any]) -> None:
    item.clear()
    item.extend(entries) if isinstance(item, collections.deque) else item.update(entries)
