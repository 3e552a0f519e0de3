"""Take and restore everything that training steps change, bit for bit and in place.

`preserved` is the door: inside it steps may be taken freely; when it is left, however it is left, the caller's objects
are what they were: the same tensors with the same bits, the same gradients or their absence, the same optimizer state,
options, attributes, flags and random states.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lrlint.errors import UsageError
from lrlint.targets.preservation.generators import random_states
from lrlint.targets.preservation.iterators import StandIns
from lrlint.targets.preservation.object_walk import LARGE, ObjectGraph, inner_tensors
from lrlint.targets.preservation.records import Contents, Holder, Record, State
from lrlint.targets.preservation.storage import Extent, SnapshotStorage, extents, region
from lrlint.targets.preservation.writes import CopyOnWrite
from lrlint.targets.rng_state import tolerant

#: Signals whose handlers may raise in Python code; they wait until a restoration is complete.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name))

#: Attributes of a tensor in which torch keeps the hooks that were registered on it.
_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class Snapshot:
    """The state of models, optimizers and what belongs to them, from `take`; `restore` may be called many times.

    Every storage is saved once, however many tensors share it, and only the part of it that tensors cover: one copy of
    parameters, buffers, gradients and optimizer state. ``place`` says where it lies (``device``, ``host``, ``disk``),
    ``nbytes`` how large it is, `describe` both in words. `close` gives the memory back.
    """

    def __init__(self, walk: ObjectGraph, place: str, reserve: int, lazily: bool = False) -> None:
        self._records: list[Record] = walk.records
        self._tensors = list(_tensors([*walk.tensors, *walk.data], lazily))
        state = extents(_plain(walk.tensors))
        data = [extent for extent in extents(_plain(walk.data)) if extent.high - extent.low <= LARGE]
        known = {extent.storage._cdata for extent in state}
        data = [extent for extent in data if extent.storage._cdata not in known]
        self.writes = CopyOnWrite(state) if lazily else None
        at_once = _small(walk, state) if lazily else state
        self._room = SnapshotStorage([region(extent) for extent in (*at_once, *data)], place, reserve)
        self.nbytes, self.place = self._room.nbytes, self._room.place
        devices = {tensor.device for tensor in walk.tensors}
        self._process = [*random_states(), *_modes(devices), *_global_hooks()]
        self._iterators = StandIns(walk.iterators, [record for record in walk.records if isinstance(record, Holder)])
        self.notes: list[str] = []
        if not walk.complete:
            self.notes.append("more objects hang on the model than are remembered: not all of them are put back")
        self._iterators.install()

    @classmethod
    def take(
        cls,
        models: Sequence[nn.Module],
        optimizers: Sequence[Any],
        others: Sequence[Any] = (),
        *,
        data: Sequence[Any] = (),
        place: str = "auto",
        lazily: bool = False,
    ) -> Snapshot:
        """Save the state of ``models``, ``optimizers`` and ``others``.

        ``others``: schedulers, gradient scalers, criteria, loss functions (what their closures hold is kept), random
        generators. ``data``: loaders, samplers, data sets and batches, whose state is kept, but not the data. ``place``:
        ``device``, ``host``, ``disk``, or ``auto``: the first of them with room. ``lazily``: no training steps are to
        come, so most tensors are copied only when an operator is about to write into them, which ``writes`` sees while
        it is active. Iterators that are held somewhere are replaced by copies from now on, until `restore`.

        Raises UsageError for lazy modules that have not run yet, where steps are to come.
        """
        for model in () if lazily else models:
            _require_initialised(model)
        walk = ObjectGraph([*models, *optimizers, *others], data)
        return cls(walk, place, 0 if lazily else _reserve(optimizers), lazily)

    def restore(self, again: bool = True) -> None:
        """Put everything back. Signals that would interrupt it are handled when it is done.

        ``again``: more of the user's code will run before the last restoration.
        """
        with _uninterrupted():
            with torch.no_grad(), tolerant():  # what a device failed at is the news, not that it takes nothing back
                memory = [self._room] if self.writes is None else [self.writes, self._room]
                for record in (*self._records, *self._tensors, *memory):
                    record.restore()
            for state in self._process:
                state.restore()
            torch.clear_autocast_cache()  # it may hold casts of weights that are no more
            self.notes += [note for note in self._iterators.notes() if note not in self.notes]
            if again:
                self._iterators.install()

    def describe(self) -> str:
        """Where the copy lies and how large it is, in one line."""
        return self._room.describe()

    def close(self) -> None:
        """Release the copy; the snapshot cannot be restored afterwards."""
        self._room.close()
        self._records, self._tensors, self._process = [], [], []
        self._iterators = StandIns([], [])


@contextmanager
def preserved(
    models: Sequence[nn.Module],
    optimizers: Sequence[Any],
    others: Sequence[Any] = (),
    place: str = "auto",
    *,
    data: Sequence[Any] = (),
    lazily: bool = False,
) -> Iterator[Snapshot]:
    """Whatever happens in this block is undone when it ends, also by an exception, Ctrl-C or sys.exit.

    Arguments as of `Snapshot.take`; yields the snapshot, so that several experiments can start from the same state, and
    whose ``notes`` say afterwards what could not be undone.
    """
    snapshot = Snapshot.take(models, optimizers, others, data=data, place=place, lazily=lazily)
    try:
        with snapshot.writes or contextlib.nullcontext():
            yield snapshot
    finally:
        snapshot.restore(again=False)
        snapshot.close()


class _Tensor:
    """What belongs to a tensor object beside its values: where they lie, its gradient, whether it wants one, its hooks."""

    __slots__ = ("_alias", "_grad", "_hooks", "_leaf", "_requires", "_version", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self._leaf = tensor.is_leaf
        self._requires = tensor.requires_grad
        self._grad = tensor.grad if self._leaf else None
        self._version = None if tensor.is_inference() else tensor._version
        self._hooks = [(name, Contents(getattr(tensor, name, None) or {})) for name in _HOOKS]
        self._alias = tensor.detach() if tensor.layout == torch.strided else tensor.detach().clone()

    def restore(self) -> None:
        tensor, alias = self.tensor, self._alias
        if alias.layout != torch.strided:
            tensor.data = alias.clone()  # sparse: accumulation changes its very shape
        elif not inner_tensors(tensor) and not _same_place(tensor, alias):
            tensor.data = alias
        if self._version is not None and tensor._version != self._version:
            _set_version(tensor, self._version)
        for name, before in self._hooks:
            now = getattr(tensor, name, None)
            if now and not before.is_of(now):
                now.clear()  # those of a tensor that had none
            before.restore()
        if not self._leaf:
            return
        if tensor.requires_grad != self._requires:
            tensor.requires_grad_(self._requires)
        if tensor.grad is not self._grad:
            tensor.grad = self._grad


def _set_version(tensor: torch.Tensor, version: int) -> None:
    """Values are back, so a graph that was recorded before may still be walked backward (where torch lets us say so)."""
    with contextlib.suppress(AttributeError, TypeError):
        torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))


def _same_place(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype


def _tensors(tensors: Sequence[torch.Tensor], lazily: bool) -> Iterator[_Tensor]:
    """What belongs to each, but for parameters of lazy modules, which have neither values nor a shape yet.

    A tensor of a class of its own need not take part in a check: one that refuses is left out.
    """
    for tensor in tensors:
        if not is_lazy(tensor):
            with contextlib.suppress(Exception) if lazily else contextlib.nullcontext():
                yield _Tensor(tensor)


def _small(walk: ObjectGraph, state: Sequence[Extent]) -> list[Extent]:
    """Memory that is copied in any case, since it may be written past torch (through NumPy): small, and not a module's."""
    modules = [item for item in walk.visited if isinstance(item, nn.Module)]
    registered = {id(t) for m in modules for held in (m._parameters, m._buffers) for t in held.values()}
    own = {e.storage._cdata for e in extents(_plain([t for t in walk.tensors if id(t) not in registered]))}
    return [extent for extent in state if extent.storage._cdata in own and extent.high - extent.low <= LARGE]


def _plain(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Those whose values lie in memory of their own: a wrapper's lie in what it wraps."""
    return [tensor for tensor in tensors if not is_lazy(tensor) and not inner_tensors(tensor)]


def _reserve(optimizers: Sequence[Any]) -> int:
    """Bytes that steps will need on top: a gradient, its statistics' two copies, and two moments where the optimizer has
    no state yet.
    """
    total = 0
    for optimizer in optimizers:
        copies = 3 if getattr(optimizer, "state", None) else 5
        for group in optimizer.param_groups:
            total += copies * sum(p.numel() * p.element_size() for p in group["params"] if p.requires_grad)
    return total


def _require_initialised(model: nn.Module) -> None:
    lazy = next((n for n, t in model.named_parameters() if is_lazy(t)), None)
    if lazy is not None:
        raise UsageError(f"parameter {lazy!r} has no shape yet", "run one forward pass through the lazy modules first")


def _modes(devices: set[torch.device]) -> list[Record]:
    """Gradient mode and autocast, as this thread has them."""
    modes: list[Record] = [
        State(torch.is_grad_enabled(), _set_grad_enabled),
        State(torch.is_autocast_cache_enabled(), torch.set_autocast_cache_enabled),
    ]
    for kind in sorted({device.type for device in devices} - {"meta"}):
        with contextlib.suppress(RuntimeError):  # a device type that has no autocast
            enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
            modes.append(State((kind, enabled, dtype), _set_autocast))
    return modes


def _global_hooks() -> list[Record]:
    """Hooks on all modules and all optimizers, of which a pass may register more each time."""
    places = [sys.modules[kind.__module__] for kind in (nn.Module, torch.optim.Optimizer)]
    held = [value for place in places for name, value in vars(place).items() if name.startswith("_global_")]
    return [Contents(value) for value in held if isinstance(value, dict)]


def _set_grad_enabled(enabled: bool) -> None:
    torch._C._set_grad_enabled(enabled)


def _set_autocast(state: tuple[str, bool, torch.dtype]) -> None:
    kind, enabled, dtype = state
    torch.set_autocast_enabled(kind, enabled)
    torch.set_autocast_dtype(kind, dtype)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Python's signal handlers: half a restoration is the one thing nobody can repair."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    held = [number for number, handler in before.items() if callable(handler)]
    for number in held:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, before[number])
        for number in dict.fromkeys(waiting):
            signal.raise_signal(number)
