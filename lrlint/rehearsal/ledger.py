"""Which tensors have which gradients, by looking at them between events.

Nothing is intercepted: a ``.grad`` that is another object, has another version or other values than at the last look
was written since. So every spelling of clearing counts: ``zero_grad``, ``p.grad = None``, ``p.grad.zero_()``, a view of
a DDP bucket, the method of a helper.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

#: Values of a tensor that are compared where its version tells nothing (writes through ``.data``).
_SAMPLED = 4


@dataclass
class Changes:
    """Numbers of the tensors whose gradient appeared or was replaced (``got``), was emptied (``cleared``) or written to
    in place (``edited``), and of those whose values were written (``moved``).
    """

    got: list[int] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    edited: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Tensor:
    """What stays known of a tensor after it is gone."""

    number: int
    shape: tuple[int, ...]
    is_parameter: bool
    requires_grad: bool

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class Ledger:
    """Numbers every leaf that takes part, and compares gradients and values between two looks."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._refs: list[weakref.ref[torch.Tensor]] = []
        self._numbers: dict[int, int] = {}
        self._gradients: list[tuple[Any, int] | None] = []  # (weak reference to .grad, its version)
        self._versions: list[int] = []
        self._samples: list[tuple[float, ...] | None] = []
        self._zeroed: set[int] = set()

    def number(self, tensor: torch.Tensor) -> int:
        """Its number; a tensor not seen before gets the next one."""
        known = self._numbers.get(id(tensor))
        if known is not None and self._refs[known]() is tensor:
            return known
        number = self._numbers[id(tensor)] = len(self.tensors)
        self.tensors.append(
            Tensor(number, tuple(tensor.shape), isinstance(tensor, nn.Parameter), bool(tensor.requires_grad))
        )
        self._refs.append(weakref.ref(tensor))
        gradient = tensor.grad if tensor.is_leaf else None
        self._gradients.append(None if gradient is None else (weakref.ref(gradient), gradient._version))
        self._versions.append(tensor._version)
        self._samples.append(None)
        return number

    def numbers(self, tensors: Iterable[torch.Tensor]) -> list[int]:
        return [self.number(tensor) for tensor in tensors]

    def knows(self, tensor: torch.Tensor) -> bool:
        known = self._numbers.get(id(tensor))
        return known is not None and self._refs[known]() is tensor

    def alive(self) -> Iterator[tuple[int, torch.Tensor]]:
        for number, reference in enumerate(self._refs):
            tensor = reference()
            if tensor is not None:
                yield number, tensor

    def look(self, *, values: bool = False, backward: bool = False) -> Changes:
        """What has changed since the last look.

        ``values``: weights and filled gradients are compared by a few of their values too. ``backward``: the look is
        right after a backward pass, which may well leave a gradient of zeros.
        """
        changes = Changes()
        for number, tensor in self.alive():
            self._look_at_gradient(number, tensor, changes, values, backward)
            if self._moved(number, tensor, values):
                changes.moved.append(number)
        return changes

    def _look_at_gradient(
        self, number: int, tensor: torch.Tensor, changes: Changes, values: bool, backward: bool
    ) -> None:
        old = self._gradients[number]
        gradient = tensor.grad if tensor.is_leaf else None
        if gradient is None:
            if old is not None:
                changes.cleared.append(number)
                self._gradients[number] = None
            return
        same = old is not None and old[0]() is gradient
        if same and old is not None and old[1] == gradient._version:
            if values and not backward and number not in self._zeroed and _all_zero(gradient):
                self._zeroed.add(number)  # p.grad.data.zero_() moves no version
                changes.cleared.append(number)
            return
        self._gradients[number] = (weakref.ref(gradient), gradient._version)
        self._zeroed.discard(number)
        if backward:
            changes.got.append(number)
        elif _all_zero(gradient):
            self._zeroed.add(number)
            changes.cleared.append(number)
        else:
            (changes.edited if same else changes.got).append(number)

    def _moved(self, number: int, tensor: torch.Tensor, values: bool) -> bool:
        version, moved = tensor._version, False
        if version != self._versions[number]:
            self._versions[number], moved = version, True
        if values:
            sample, before = _sample(tensor), self._samples[number]
            self._samples[number] = sample
            moved = moved or (before is not None and sample is not None and sample != before)
        elif moved:
            self._samples[number] = None
        return moved


def _sample(tensor: torch.Tensor) -> tuple[float, ...] | None:
    """A few values from the middle; None where they cannot be read without a copy or a synchronisation."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or not tensor.numel():
        return None
    try:
        count = min(_SAMPLED, tensor.numel())
        start = tensor.storage_offset() + (tensor.numel() - count) // 3
        values = tensor.detach().as_strided((count,), (1,), start).tolist()
    except (RuntimeError, TypeError, ValueError):  # an expanded tensor, a subclass without storage
        return None
    return tuple(0.5 if value != value else value for value in map(float, values))  # nan equals nan here


def _all_zero(gradient: torch.Tensor) -> bool:
    if gradient.is_sparse or not gradient.numel() or gradient.device.type == "meta":
        return False
    if gradient.device.type != "cpu":
        return not bool(gradient.detach().count_nonzero())
    sample = _sample(gradient)
    if sample is not None and any(value != 0 for value in sample):
        return False
    return not bool(gradient.detach().count_nonzero())
