"""Walk from models and optimizers to everything that a training step can change, and remember what was there.

The walk follows references: attributes, slots, dicts, lists, sets, deques, closures, bound methods, tensors and their
gradients. It knows no optimizer and no module class, so a class never seen before is kept as well as torch's own. Each
object is visited once.

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
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

from lrlint.probing.training.seeding import generator_state
from lrlint.targets.preservation.records import MISSING, Attributes, Cell, Contents, Record, Slots, State

_ATOMIC = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(MISSING), range, slice}
    | {torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format}
)
_CONTAINERS = (dict, list, set, collections.deque)
_OPAQUE = (
    *(type, enum.Enum, io.IOBase, weakref.ref, logging.Logger, logging.Handler, threading.Thread),
    *(types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.GeneratorType),
    *(DataLoader, Dataset, Sampler, torch.UntypedStorage),
)
_OPAQUE_PACKAGES = (
    *("torch._", "torch.fx.", "torch.distributed.", "torch.jit.", "torch.autograd.", "torch.utils.data."),
    *("torch.cuda.", "transformers.trainer", "lightning.fabric.", "lightning.pytorch.trainer", "datasets."),
    *("pytorch_lightning.trainer", "concurrent.", "multiprocessing.", "threading.", "_thread.", "asyncio."),
    *("logging.", "importlib.", "_frozen_"),
)
#: Followed whatever package they come from.
_ALWAYS = (nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler)
#: Followed where a function names a global variable.
_FROM_GLOBALS = (*_ALWAYS, torch.Tensor, torch.Generator, random.Random)


class Walk:
    """What was found: ``records`` of Python state, and all ``tensors`` met, each object once."""

    def __init__(self, roots: Iterable[Any]) -> None:
        self.records: list[Record] = []
        self.tensors: list[torch.Tensor] = []
        self._seen: dict[int, Any] = {}  # by id; the object is held so that its id stays its own
        self._stack: list[Any] = []
        # Caches that end with the walk: the user's classes are not kept alive.
        self._slots, self._is_from_opaque = functools.cache(_slots), functools.cache(_is_from_opaque)
        for root in roots:
            self._enter(root)
        while self._stack:
            item = self._stack.pop()
            if type(item) not in _ATOMIC and id(item) not in self._seen:
                self._seen[id(item)] = item
                self._visit(item)

    def _enter(self, root: Any) -> None:
        """Where to start. Of a loader, its data stays out of it; what decides their order does not."""
        if isinstance(root, DataLoader):
            for part in (root.generator, root.sampler, root.batch_sampler):
                self._enter(part)
        elif isinstance(root, Sampler):
            self.records.append(Attributes(root))
            for value in vars(root).values():
                if isinstance(value, (torch.Generator, random.Random, Sampler)):
                    self._enter(value)
        else:
            self._stack.append(root)

    def _visit(self, item: Any) -> None:
        if isinstance(item, torch.Tensor):
            self._tensor(item)
        elif isinstance(item, _CONTAINERS):
            contents = Contents(item)
            self.records.append(contents)
            self._stack += contents.entries
        elif isinstance(item, (tuple, frozenset)):
            self._stack += item
        elif isinstance(item, torch.Generator):
            self.records.append(generator_state(item))
        elif isinstance(item, random.Random):
            self.records.append(State(item.getstate(), item.setstate))
        elif type(item).__module__.split(".")[0] == "numpy":
            self._numpy(item)
        elif self._is_followed(item):
            self._function(item)
        else:
            return
        self._attributes(item)

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
            named = (item.__globals__.get(name) for name in item.__code__.co_names)
            self._stack += [value for value in named if isinstance(value, _FROM_GLOBALS)]
            for cell in item.__closure__ or ():
                if id(cell) not in self._seen:
                    self._seen[id(cell)] = cell
                    variable = Cell(cell)
                    self.records.append(variable)
                    self._stack.append(variable.value)
        elif isinstance(item, types.MethodType):
            self._stack += [item.__self__, item.__func__]
        elif isinstance(item, functools.partial):
            self._stack += [item.func, item.args, item.keywords]

    def _tensor(self, item: torch.Tensor) -> None:
        self.tensors.append(item)
        self._stack += inner_tensors(item)
        if item.is_leaf and item.grad is not None:
            self._stack.append(item.grad)

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


def inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a wrapper subclass (DTensor, a quantized weight) consists of; none of an ordinary tensor."""
    if type(tensor) in (torch.Tensor, nn.Parameter) or not hasattr(tensor, "__tensor_flatten__"):
        return []
    names, _ = tensor.__tensor_flatten__()
    return [getattr(tensor, name) for name in names]


def _is_from_opaque(kind: type) -> bool:
    """Whether the class, or one it derives from (a Trainer of the user's), belongs to a package that is not followed."""
    return any(f"{base.__module__}.".startswith(_OPAQUE_PACKAGES) for base in kind.__mro__)


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
