"""Stand-ins for parameters and buffers while a model's forward pass is observed; the originals come back in any case."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lrlint.inspection.graph.constants import SMALL

#: Containers among a module's attributes whose contents are put back.
_CONTAINERS = (list, dict, OrderedDict, set)


@contextmanager
def stand_ins(modules: Sequence[nn.Module], real: bool = False) -> Iterator[dict[int, torch.Tensor]]:
    """Replace every parameter and buffer by a twin; yields id(twin) → original.

    Twins lie on the meta device (no memory), or with ``real`` are copies on the CPU; small integers (positions, counters)
    are copies in any case, since code looks at their values. Tensors that share memory have twins
    that share it. Every floating point parameter requires a gradient, so that reachability does not depend on what is
    frozen. Attributes, hooks and submodules that the forward pass leaves on modules are put back as well.
    """
    originals: dict[int, torch.Tensor] = {}
    slots = [
        (getattr(m, kind), name, t)
        for m in modules
        for kind in ("_parameters", "_buffers")
        for name, t in _held(m, kind)
    ]
    attributes = [(module, dict(module.__dict__), _contents(module)) for module in modules]
    make = _Twins(real)
    keep = []  # an id must not be used twice while it stands for a tensor
    try:
        for held, name, tensor in slots:
            twin = make(tensor)
            keep.append(twin)
            originals[id(twin)] = tensor
            held[name] = twin
        for module in modules:
            if isinstance(module, nn.RNNBase):
                module.__dict__["_flat_weights"] = [getattr(module, name, None) for name in module._flat_weights_names]
        yield originals
    finally:
        for held, name, tensor in slots:
            held[name] = tensor
        for module, before, contents in attributes:
            _restore(module, before, contents)


def _held(module: nn.Module, kind: str) -> list[tuple[str, torch.Tensor]]:
    return [(name, tensor) for name, tensor in getattr(module, kind).items() if isinstance(tensor, torch.Tensor)]


def _contents(module: nn.Module) -> list[tuple[Any, Any]]:
    return [(value, value.copy()) for value in module.__dict__.values() if type(value) in _CONTAINERS]


def _restore(module: nn.Module, before: dict[str, Any], contents: list[tuple[Any, Any]]) -> None:
    state = module.__dict__
    for name in [name for name in state if name not in before]:
        del state[name]
    for name, value in before.items():
        if state.get(name, state) is not value:
            state[name] = value
    for container, content in contents:
        if not _same(container, content):
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)


def _same(first: Any, second: Any) -> bool:
    """Whether two containers hold the very same objects in the same order; values may refuse to be compared."""
    if len(first) != len(second):
        return False
    if isinstance(first, dict) and not all(a is b for a, b in zip(first.values(), second.values(), strict=True)):
        return False
    return all(a is b for a, b in zip(first, second, strict=True))


class _Twins:
    """Makes one twin per tensor object, over one twin storage per original storage."""

    def __init__(self, real: bool) -> None:
        self._real = real
        self._made: dict[int, torch.Tensor] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        known = self._made.get(id(tensor))
        if known is None:
            known = self._made[id(tensor)] = self._parameter(tensor)
        return known

    def _parameter(self, tensor: torch.Tensor) -> torch.Tensor:
        twin = self._copy(tensor) if self._real or _has_small_values(tensor) else self._meta(tensor)
        if not isinstance(tensor, nn.Parameter):
            return twin
        return nn.Parameter(twin, requires_grad=twin.dtype.is_floating_point or twin.dtype.is_complex)

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().clone().cpu()

    def _meta(self, tensor: torch.Tensor) -> torch.Tensor:
        if (
            tensor.layout is not torch.strided
            or type(tensor) not in (torch.Tensor, nn.Parameter)
            or tensor.is_quantized
        ):
            dtype = torch.float32 if tensor.is_quantized else tensor.dtype
            return torch.empty(tensor.shape, dtype=dtype, device="meta")
        storage = tensor.untyped_storage()
        twin = self._storages.get(storage._cdata)
        if twin is None:
            made = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
            twin = self._storages[storage._cdata] = made.untyped_storage()
        empty = torch.empty(0, dtype=tensor.dtype, device="meta")
        return empty.set_(twin, tensor.storage_offset(), tensor.shape, tensor.stride())  # type: ignore[call-overload, no-any-return]


def _has_small_values(tensor: torch.Tensor) -> bool:
    plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided and not tensor.is_quantized
    exact = not (tensor.is_floating_point() or tensor.is_complex())
    return plain and exact and tensor.device.type == "cpu" and tensor.numel() <= SMALL


@contextmanager
def provenance(paths: dict[int, str], changed: Callable[[str], None]) -> Iterator[None]:
    """Tell which module runs: ``changed(path)`` on entering and leaving; modules without a path keep their caller's."""
    stack: list[str] = [""]

    def enter(module: nn.Module, args: Any) -> None:
        stack.append(paths.get(id(module), stack[-1]))
        changed(stack[-1])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if len(stack) > 1:
            stack.pop()
        changed(stack[-1])

    before = nn.modules.module.register_module_forward_pre_hook(enter)
    after = nn.modules.module.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
