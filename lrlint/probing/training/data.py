"""What a probe trains on: the target's batches and loss, or something made up in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lrlint.errors import UsageError
from lrlint.facts import Setup
from lrlint.inspection.graph.inputs import candidates
from lrlint.probing.training.batches import Batches, collect, synthesize
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.sandbox import no_default_device

Data = tuple[Batches, Any, list[str]]
_MADE_UP = "no batches were given: batches and loss are made up after {source}, the evidence is weak"


class NoData(Exception):
    """There is nothing to take steps with; the message says why."""


def data_of(built: LiveTarget, setup: Setup, limit: int, device: torch.device, seed: int) -> Data:
    """(batches, loss function, notes). Batches and loss that are made up give weak evidence.

    Raises NoData where there is neither a batch nor inputs to make one after.
    """
    if built.batches is not None:
        count = limit * (setup.training.accumulation or 1)
        return collect(built.batches, device, count, batch_size=setup.training.batch_size), built.loss_fn, []
    if len(built.models) > 1:
        raise NoData("there are no batches, and none can be made up for several models")
    (model,) = built.models.values()
    why = ""
    with no_default_device():
        inputs_tried = list(candidates(model, built.example_inputs, None))
    for inputs in inputs_tried:
        batches = synthesize({"args": tuple(inputs.args), "kwargs": dict(inputs.kwargs)}, device, seed=seed)
        loss = _MadeUp(seed)
        try:
            with torch.no_grad():
                loss(model, batches.at(0))
        except Exception as error:  # these inputs do not fit; the next ones may
            why = why or f" ({type(error).__name__}: {str(error).splitlines()[0]})"
            continue
        source = "example_inputs" if inputs.source == "given" else inputs.source
        return batches, loss, [_MADE_UP.format(source=source)]
    raise NoData(f"there are no batches, and no inputs were found to make some after{why}")


class _MadeUp:
    """The model's own loss where it returns one, else the distance of its output from a fixed random one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        output = model(*batch["args"], **batch["kwargs"])
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if isinstance(loss, torch.Tensor):
            return loss
        outputs = [tensor for tensor in _floats(output) if tensor.requires_grad or not torch.is_grad_enabled()]
        if not outputs:
            raise UsageError("no output of the model has a gradient, so no loss can be made up", "give batches")
        return torch.stack([self._distance(tensor) for tensor in outputs]).mean()

    def _distance(self, output: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self._seed)
        target = torch.randn(output.shape[1:], generator=generator, device="cpu").to(output.device, output.dtype)
        return (output - target).float().square().mean()


def _floats(item: Any) -> list[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        return [item] if item.is_floating_point() else []
    values = item.values() if isinstance(item, Mapping) else item
    if isinstance(values, (list, tuple)) or isinstance(item, Mapping):
        return [tensor for value in values for tensor in _floats(value)]
    return []
