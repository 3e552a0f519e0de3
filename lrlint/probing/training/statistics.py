"""Per-group statistics of a step, computed where the parameters are.

Gradients and parameters are copied into flat buffers in the order of the groups (two fused copies); each statistic of a
group is then one dot product of contiguous memory, and the optimizer may do with its gradients what it likes. Nothing
is read on the host here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

#: (index of the optimizer, index of the group)
Key = tuple[int, int]
#: Columns of a group: g·g, v·v, w·w, g·v, and g·v' with the v' of the step before; v is minus the update.
_GRADIENT, _UPDATE, _WEIGHT, _SLOPE, _ALONG = range(5)
_COLUMNS = 5
#: Elements per dot product: BLAS counts in 32 bits, and partial sums of this length lose less in float32.
_LONGEST = 1 << 22


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Statistics of a group at one step.

    ``gradient``, ``update``, ``weight``: Euclidean norms (the gradient after accumulation and unscaling, before
    clipping; the weights before the step). ``slope``: g·u, the change of the loss that the gradient predicts for the
    update u. ``along``: this step's gradient times the *previous* step's update; NaN at the first step of a run.
    """

    gradient: float
    update: float
    weight: float
    slope: float
    along: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.gradient + self.update + self.weight)


class Statistics:
    """The statistics of the groups of some optimizers (``indices`` are theirs in the setup).

    Parameters without a gradient of their own, and those that an earlier group holds, are left out. Sums are in float32
    (of float64 parameters in float64); beside the state this takes two copies of the parameters.
    """

    def __init__(self, optimizers: Sequence[Any], indices: Sequence[int]) -> None:
        self.keys: list[Key] = []
        self._flats: dict[tuple[torch.device, torch.dtype], _Flat] = {}
        self._along = False
        members: list[list[torch.Tensor]] = []
        seen: set[int] = set()
        for index, optimizer in zip(indices, optimizers, strict=True):
            for number, group in enumerate(optimizer.param_groups):
                chosen = [p for p in group["params"] if p.requires_grad and id(p) not in seen]
                seen.update(map(id, chosen))
                self.keys.append((index, number))
                members.append(chosen)
        for position, chosen in enumerate(members):
            for parameter in chosen:
                self._flat(parameter, _COLUMNS * len(members)).add(_COLUMNS * position, parameter)

    def _flat(self, parameter: torch.Tensor, columns: int) -> _Flat:
        double = parameter.dtype in (torch.float64, torch.complex128)
        key = (parameter.device, torch.float64 if double else torch.float32)
        if key not in self._flats:
            self._flats[key] = _Flat(*key, columns)
        return self._flats[key]

    @property
    def parts(self) -> int:
        """How many `vectors` there are: one per device and precision."""
        return len(self._flats)

    def reset(self) -> None:
        """A run begins: the last update belongs to another one."""
        self._along = False

    @torch.no_grad()
    def before(self) -> None:
        """Call with the gradients there, before clipping and before the optimizer's step."""
        for flat in self._flats.values():
            flat.before(self._along)

    @torch.no_grad()
    def after(self) -> None:
        """Call when the optimizer has taken its step."""
        for flat in self._flats.values():
            flat.after()
        self._along = True

    def vectors(self) -> list[torch.Tensor]:
        """What was found, on the devices; the next step overwrites it."""
        return [flat.found for flat in self._flats.values()]

    def groups(self, vectors: Sequence[Sequence[float]]) -> dict[Key, GroupFacts]:
        """The facts by group in the `vectors` as they were read."""
        sums = [
            math.fsum(column) if all(map(math.isfinite, column)) else sum(column)
            for column in zip(*vectors, strict=True)
        ]
        facts = {}
        for position, key in enumerate(self.keys):
            g, v, w, slope, along = sums[_COLUMNS * position : _COLUMNS * (position + 1)] or [0.0] * _COLUMNS
            facts[key] = GroupFacts(_root(g), _root(v), _root(w), -slope, -along)
        return facts


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else square  # NaN stays NaN


class _Flat:
    """The parameters of one device and precision, side by side."""

    def __init__(self, device: torch.device, dtype: torch.dtype, columns: int) -> None:
        self._parameters: list[torch.Tensor] = []
        self._bounds: dict[int, tuple[int, int]] = {}  # first column of a group -> its part of the buffers
        self._size = 0
        self._place = {"device": device, "dtype": dtype}
        self.found = torch.zeros(columns, **self._place)  # type: ignore[call-overload]
        self._outs = list(self.found)
        self._present: set[int] = set()

    @cached_property
    def _buffers(self) -> tuple[_Buffer, _Buffer]:
        """For gradients, and for weights that become minus the update."""
        first, second = (_Buffer(self._parameters, self._bounds, self._size, self._place) for _ in range(2))
        return first, second

    def add(self, column: int, parameter: torch.Tensor) -> None:
        start, _ = self._bounds.get(column, (self._size, self._size))
        self._size += plain(parameter).numel()
        self._bounds[column] = (start, self._size)
        self._parameters.append(parameter)

    def before(self, along: bool) -> None:
        """Take gradients and weights in; ``along``: the last step's move is still in its buffer."""
        gradients, moves = self._buffers
        self._take(gradients)
        self._dots(gradients, gradients, _GRADIENT)
        if along:
            self._dots(gradients, moves, _ALONG)
        else:
            for column in self._bounds:
                self._outs[column + _ALONG].fill_(math.nan)
        torch._foreach_copy_(moves.views, self._now())
        self._dots(moves, moves, _WEIGHT)

    def after(self) -> None:
        """The parameters have moved."""
        gradients, moves = self._buffers
        torch._foreach_sub_(moves.views, self._now())
        self._dots(moves, moves, _UPDATE)
        self._dots(gradients, moves, _SLOPE)

    def _now(self) -> list[torch.Tensor]:
        return [plain(parameter) for parameter in self._parameters]

    def _take(self, buffer: _Buffer) -> None:
        gradients = {i: p.grad for i, p in enumerate(self._parameters) if p.grad is not None}
        for index in self._present - gradients.keys():
            buffer.views[index].zero_()
        self._present = set(gradients)
        if gradients:
            torch._foreach_copy_([buffer.views[i] for i in gradients], [plain(g) for g in gradients.values()])

    def _dots(self, a: _Buffer, b: _Buffer, statistic: int) -> None:
        for column, first, second in zip(self._bounds, a.parts, b.parts, strict=True):
            out = self._outs[column + statistic]
            if len(first) == 1:
                torch.dot(first[0], second[0], out=out)
            else:
                torch.sum(torch.stack([torch.dot(x, y) for x, y in zip(first, second, strict=True)]), 0, out=out)


class _Buffer:
    """Flat memory, with a view shaped like each parameter, and cut into each group's pieces."""

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        bounds: dict[int, tuple[int, int]],
        size: int,
        options: dict[str, Any],
    ) -> None:
        flat = torch.zeros(size, **options)
        self.parts = [torch.split(flat[start:stop], _LONGEST) for start, stop in bounds.values()]
        self.views = []
        start = 0
        for parameter in map(plain, parameters):
            part = flat[start : start + parameter.numel()]
            start += parameter.numel()
            # In the parameter's own memory order a copy is a plain one.
            self.views.append(part.as_strided(parameter.shape, _strides(parameter)))


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as dense real numbers in this process: a DTensor's local part, a complex tensor's components."""
    tensor = getattr(tensor, "_local_tensor", tensor)
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Its strides where its elements fill a block of memory, else those of a contiguous tensor of its shape."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return torch.empty(tensor.shape, device="meta").stride()
        expected *= size
    return tensor.stride()
