"""The values of small floating point constants, kept beside tensors that have none.

A mask of ones, a threshold, a number made into a tensor: code makes them on the device of its inputs, which is meta while
it is observed, and then asks whether all of the mask is set. A shadow is the same constant on the CPU; what is computed
from constants alone has one too, until something is written into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

aten = torch.ops.aten

META = torch.device("meta")
#: Elements of a tensor that is kept real.
SMALL = 1 << 16
#: Operators that make constants of numbers (not of chance).
_CONSTANTS = frozenset(
    (
        aten.arange.default, aten.arange.start, aten.arange.start_step, aten.zeros.default, aten.ones.default,
        aten.full.default, aten.zeros_like.default, aten.ones_like.default, aten.full_like.default,
        aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.scalar_tensor.default,
    )
)  # fmt: skip


class ConstantCopies:
    """Real twins of meta tensors, by the storage that they lie in."""

    def __init__(self) -> None:
        self._of: dict[int, dict[int, torch.Tensor]] = {}

    def of_call(self, func: Any, args: Any, kwargs: Any, run: Callable[[Any, Any, Any], Any]) -> Any:
        """The operator's result by ``run``; with a shadow where all that goes in has one.

        Where the result is no floating point value, it is the shadow itself: such values stay real.
        """
        if func in _CONSTANTS:
            return self._constant(func, args, kwargs, run(func, args, kwargs))
        if func is aten._to_copy.default and kwargs.get("device") == META and self._is_small(args[0]):
            return self._keep(run(func, args, kwargs), func(args[0], **{**kwargs, **_on_cpu(kwargs)}))
        if not self._of:
            return run(func, args, kwargs)
        operands = list(tensors_in((args, kwargs)))
        if func._schema.is_mutable:
            result = run(func, args, kwargs)
            for tensor in operands:
                self._forget(tensor)
            return result
        known = {id(t): shadow for t in operands if (shadow := self._shadow(t)) is not None}
        if not known or any(id(t) not in known and t.device == META for t in operands) or _by_chance(func):
            return run(func, args, kwargs)
        value = func(*_replaced(args, known), **{**_replaced(kwargs, known), **_on_cpu(kwargs)})
        if isinstance(value, torch.Tensor) and not value.is_floating_point() and value.numel() <= SMALL:
            return value
        result = run(func, args, kwargs)
        return self._keep(result, value) if isinstance(value, torch.Tensor) else result

    def _constant(self, func: Any, args: Any, kwargs: Any, result: torch.Tensor) -> torch.Tensor:
        if result.device != META or not result.is_floating_point() or result.numel() > SMALL:
            return result
        like = [torch.empty(a.shape, dtype=a.dtype) if isinstance(a, torch.Tensor) else a for a in args]
        return self._keep(result, func(*like, **{**kwargs, "device": torch.device("cpu")}))

    @staticmethod
    def _is_small(tensor: torch.Tensor) -> bool:
        return tensor.device.type == "cpu" and tensor.is_floating_point() and tensor.numel() <= SMALL

    @staticmethod
    def _storage(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0

    def _keep(self, tensor: Any, shadow: torch.Tensor) -> Any:
        if isinstance(tensor, torch.Tensor) and tensor.device == META and shadow.numel() <= SMALL:
            self._of.setdefault(self._storage(tensor), {})[id(tensor)] = shadow.detach()
        return tensor

    def _shadow(self, tensor: torch.Tensor) -> torch.Tensor | None:
        if tensor.device != META or tensor.layout is not torch.strided:
            return None
        return self._of.get(self._storage(tensor), {}).get(id(tensor))

    def _forget(self, tensor: torch.Tensor) -> None:
        if tensor.device == META:
            self._of.pop(self._storage(tensor), None)


def tensors_in(value: Any) -> Iterable[torch.Tensor]:
    """The tensors among arguments or results, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _replaced(value: Any, known: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return known.get(id(value), value)
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, known) for item in value)
    if isinstance(value, dict):
        return {key: _replaced(item, known) for key, item in value.items()}
    return value


def _on_cpu(kwargs: Any) -> dict[str, Any]:
    return {"device": torch.device("cpu")} if kwargs.get("device") == META else {}


def _by_chance(func: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags
