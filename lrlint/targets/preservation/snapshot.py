"""Take and restore everything that training steps change, bit for bit and in place.

`preserved` is the door: inside it steps may be taken freely; when it is left, however it is left, the caller's objects
are what they were: the same tensors with the same bits, the same gradients or their absence, the same optimizer state,
options, attributes, flags and random states.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lrlint.errors import UsageError
from lrlint.probing.training.seeding import random_states
from lrlint.targets.preservation.object_walk import Walk, inner_tensors
from lrlint.targets.preservation.records import Record, State
from lrlint.targets.preservation.storage import Room
from lrlint.targets.rng_state import tolerant

#: Signals whose handlers may raise in Python code; they wait until a restoration is complete.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name))


class Snapshot:
    """The state of models, optimizers and what belongs to them, from `take`; `restore` may be called many times.

    Every storage is saved once, however many tensors share it, and only the part of it that tensors cover: one copy of
    parameters, buffers, gradients and optimizer state. ``place`` says where it lies (``device``, ``host``, ``disk``),
    ``nbytes`` how large it is, `describe` both in words. `close` gives the memory back.
    """

    def __init__(self, walk: Walk, place: str, reserve: int) -> None:
        self._records: list[Record] = walk.records
        self._tensors = [_Tensor(tensor) for tensor in walk.tensors]
        self._room = Room(_regions(walk.tensors), place, reserve)
        self.nbytes, self.place = self._room.nbytes, self._room.place
        devices = {tensor.device for tensor in walk.tensors}
        self._process = [*random_states(), *_modes(devices)]

    @classmethod
    def take(
        cls, models: Sequence[nn.Module], optimizers: Sequence[Any], others: Sequence[Any] = (), *, place: str = "auto"
    ) -> Snapshot:
        """Save the state of ``models``, ``optimizers`` and ``others``.

        ``others``: schedulers, gradient scalers, criteria, loss functions (what their closures hold is kept), random
        generators, loaders and samplers (of which only what decides the order). ``place``: ``device``, ``host``,
        ``disk``, or ``auto``: the first of them with room. Raises UsageError for lazy modules that have not run yet.
        """
        for model in models:
            _require_initialised(model)
        walk = Walk([*models, *optimizers, *others])
        return cls(walk, place, _reserve(optimizers))

    def restore(self) -> None:
        """Put everything back. Signals that would interrupt it are handled when it is done."""
        with _uninterrupted():
            with torch.no_grad(), tolerant():  # what a device failed at is the news, not that it takes nothing back
                for record in (*self._records, *self._tensors, self._room):
                    record.restore()
            for state in self._process:
                state.restore()
            torch.clear_autocast_cache()  # it may hold casts of weights that are no more

    def describe(self) -> str:
        """Where the copy lies and how large it is, in one line."""
        return self._room.describe()

    def close(self) -> None:
        """Release the copy; the snapshot cannot be restored afterwards."""
        self._room.close()
        self._records, self._tensors, self._process = [], [], []


@contextmanager
def preserved(
    models: Sequence[nn.Module], optimizers: Sequence[Any], others: Sequence[Any] = (), place: str = "auto"
) -> Iterator[Snapshot]:
    """Whatever happens in this block is undone when it ends, also by an exception, Ctrl-C or sys.exit.

    Arguments as of `Snapshot.take`; yields the snapshot, so that several experiments can start from the same state.
    """
    snapshot = Snapshot.take(models, optimizers, others, place=place)
    try:
        yield snapshot
    finally:
        snapshot.restore()
        snapshot.close()


class _Tensor:
    """What belongs to a tensor object beside its values: where they lie, its gradient and whether it wants one."""

    __slots__ = ("_alias", "_grad", "_leaf", "_requires", "_version", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self._leaf = tensor.is_leaf
        self._requires = tensor.requires_grad
        self._grad = tensor.grad if self._leaf else None
        self._version = None if tensor.is_inference() else tensor._version
        self._alias = tensor.detach() if tensor.layout == torch.strided else tensor.detach().clone()

    def restore(self) -> None:
        tensor, alias = self.tensor, self._alias
        if alias.layout != torch.strided:
            tensor.data = alias.clone()  # sparse: accumulation changes its very shape
        elif not inner_tensors(tensor) and not _same_place(tensor, alias):
            tensor.data = alias
        if self._version is not None and tensor._version != self._version:
            _set_version(tensor, self._version)
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


def _regions(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The memory under the tensors as flat byte tensors, each storage once."""
    extents: dict[int, tuple[torch.UntypedStorage, int, int]] = {}
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.device.type == "meta" or inner_tensors(tensor):
            continue
        if tensor.numel() == 0:
            continue
        storage, offset = tensor.untyped_storage(), int(tensor.storage_offset())
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        low, high = (place * tensor.element_size() for place in (offset, offset + int(last) + 1))
        _, lowest, highest = extents.get(storage._cdata, (storage, low, high))
        extents[storage._cdata] = (storage, min(low, lowest), max(high, highest))
    return [_bytes(*extent) for extent in extents.values()]


def _bytes(storage: torch.UntypedStorage, low: int, high: int) -> torch.Tensor:
    """Bytes [low, high) of a storage as a tensor that shares them (and none of the user's version counters)."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, low, (high - low,), (1,))


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
