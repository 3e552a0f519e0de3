"""What a probe trains on: the target's batches and loss, or something made up in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lrlint.errors import UsageError
from lrlint.facts import Setup
from lrlint.inspection.built import Built
from lrlint.stability.batches import Batches, collect, synthesize

Data = tuple[Batches, Any, list[str]]


def data_of(built: Built, setup: Setup, limit: int, device: Any, seed: int) -> Data:
    """(batches, loss function, notes). Batches and loss that are made up give weak evidence.

    Raises UsageError where there is neither a batch nor an example to make one after.
    """
    if built.batches is not None:
        count = limit * (setup.training.accumulation or 1)
        return collect(built.batches, device, count, batch_size=setup.training.batch_size), built.loss_fn, []
    if built.example_inputs is None:
        raise UsageError(
            "there are no batches to take steps with", "return a dict that has `batches` (or `example_inputs`)"
        )
    args, kwargs = _call_of(built.example_inputs)
    batches = synthesize({"args": args, "kwargs": kwargs}, device, seed=seed)
    return batches, _MadeUp(seed), ["no batches were given: batches and loss are made up, the evidence is weak"]


def _call_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of an example: a tuple, a mapping, the pair of both, or one value."""
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, (tuple, list)):
        if len(example) == 2 and isinstance(example[0], (tuple, list)) and isinstance(example[1], Mapping):
            return tuple(example[0]), dict(example[1])
        return tuple(example), {}
    return (example,), {}


class _MadeUp:
    """The model's own loss where it returns one, else the distance of its output from a fixed random one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        output = model(*batch["args"], **batch["kwargs"])
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if isinstance(loss, torch.Tensor):
            return loss
        outputs = [tensor for tensor in _floats(output) if tensor.requires_grad]
        if not outputs:
            raise UsageError("no output of the model has a gradient, so no loss can be made up", "give batches")
        return torch.stack([self._distance(tensor) for tensor in outputs]).mean()

    def _distance(self, output: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self._seed)
        target = torch.randn(output.shape[1:], generator=generator).to(output.device, output.dtype)
        return (output - target).float().square().mean()


def _floats(item: Any) -> list[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        return [item] if item.is_floating_point() else []
    values = item.values() if isinstance(item, Mapping) else item
    if isinstance(values, (list, tuple)) or isinstance(item, Mapping):
        return [tensor for value in values for tensor in _floats(value)]
    return []
