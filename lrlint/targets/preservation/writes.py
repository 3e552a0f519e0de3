"""Keep what lies in tensors by copying it just before it is overwritten.

A check runs a model on stand-ins, so nothing should be written into its own tensors, and copying billions of weights in
case something is would be paid by everybody. Every operator that writes passes by here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lrlint.targets.preservation.storage import Extent, region

#: Arguments that batch norms write without their schemas saying so. Source: native_functions.yaml of torch.
_WRITTEN_SILENTLY = ("running_mean", "running_var")


class CopyOnWrite(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Active as a context; `restore` puts the memory of the given extents back where something was written."""

    def __init__(self, extents: Iterable[Extent]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._extents = {extent.storage._cdata: extent for extent in extents}
        self._saved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _written(func)(args, kwargs):
            self._save(tensor)
        return func(*args, **kwargs)

    def _save(self, tensor: torch.Tensor) -> None:
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return
        key = tensor.untyped_storage()._cdata
        if key in self._extents and key not in self._saved:
            original = region(self._extents[key])
            self._saved[key] = original, original.clone()

    def restore(self) -> None:
        """Write back what was overwritten; what is written later is kept again."""
        for original, copy in self._saved.values():
            original.copy_(copy)
        self._saved.clear()

    @property
    def nbytes(self) -> int:
        """Bytes copied so far."""
        return sum(copy.numel() for _, copy in self._saved.values())


@functools.cache
def _written(func: Any) -> Callable[[Sequence[Any], dict[str, Any]], list[torch.Tensor]]:
    """Reads the tensors that a call of the operator writes into out of its arguments."""
    arguments = [
        (index, argument.name)
        for index, argument in enumerate(func._schema.arguments)
        if (argument.alias_info is not None and argument.alias_info.is_write) or argument.name in _WRITTEN_SILENTLY
    ]

    def read(args: Sequence[Any], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        tensors: list[torch.Tensor] = []
        for index, name in arguments:
            value = args[index] if index < len(args) else kwargs.get(name)
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, torch.Tensor):
                    tensors.append(item)
        return tensors

    return read
