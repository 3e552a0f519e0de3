"""The inputs that the user's own code gave its modules, while it ran up to its first step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class ForwardInputs:
    """The inputs of the last call of each module that was not called by another one."""

    def __init__(self) -> None:
        self._inputs: dict[int, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {}
        self._original: Any = None
        self._depth = 0

    def __enter__(self) -> ForwardInputs:
        original = self._original = nn.Module.__call__

        @functools.wraps(original)
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not self._depth and self._original is not None:
                self._inputs[id(module)] = module, args, kwargs
            self._depth += 1
            try:
                return original(module, *args, **kwargs)
            finally:
                self._depth -= 1

        nn.Module.__call__ = call  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """What is called from here on is none of ours."""
        if self._original is not None:
            nn.Module.__call__ = self._original  # type: ignore[method-assign]
            self._original = None

    def of(self, module: nn.Module) -> Any:
        """The pair of its positional and keyword arguments; None where it was not called, or with no tensor."""
        known, args, kwargs = self._inputs.get(id(module), (None, (), {}))
        tensors = any(_holds_tensor(value) for value in (*args, *kwargs.values()))
        return (args, kwargs) if known is module and tensors else None


def _holds_tensor(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(part, torch.Tensor) for part in parts)
