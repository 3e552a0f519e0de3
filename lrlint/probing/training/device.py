"""The device that steps run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, ValuesView
from typing import Any

import torch
from torch import nn

from lrlint.errors import DeviceError, UsageError
from lrlint.probing.training.failures import target_code
from lrlint.targets.preservation.storage import device_memory

#: Copies that steps need room for. Of trainable parameters: weights, gradients, two moments, the copy of these that is put
#: back and the statistics' two; of frozen ones: the weights and their copy.
_TRAINABLE, _FROZEN = 10, 2


def places(models: Sequence[nn.Module], device: torch.device | str | None) -> list[torch.device]:
    """Where to run, and where else if the target's code does not run there.

    ``device``: None for where the models are, ``auto`` for CUDA where there is one with room for them. Raises
    UsageError for models that cannot run anywhere, DeviceError for a device that is not there.
    """
    if device not in (None, "auto"):
        require(device)
    now = place_of(models)
    if device is None:
        return [now]
    if device == "auto":
        return [torch.device("cuda"), now] if now.type == "cpu" and _has_room(models) else [now]
    return [torch.device(device)]


def move(models: Sequence[nn.Module], optimizers: Sequence[Any], loss_fn: Any, device: torch.device) -> bool:
    """Move models, the state of their optimizers and criteria to the device; whether they were elsewhere.

    Raises TargetError for a model that refuses to be moved.
    """
    now = place_of(models)
    if device.type == now.type and device.index in (None, now.index):
        return False
    losses = loss_fn.values() if isinstance(loss_fn, Mapping) else loss_fn
    criteria = losses if isinstance(losses, (list, tuple, ValuesView)) else [losses]
    with target_code(f"moving the model to {device}"):
        for module in (*models, *criteria):
            if isinstance(module, nn.Module):
                module.to(device)
        for optimizer in optimizers:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                parameter.data = parameter.data.to(device)  # those of no model
            if optimizer.state:
                optimizer.load_state_dict(optimizer.state_dict())  # it casts each state the way its class wants it
    return True


def require(device: torch.device | str) -> None:
    """Raises DeviceError for a device that this machine (or this build of torch) does not have."""
    try:
        torch.empty(1, device=device)
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise DeviceError(
            f"device {device} is not available: {reason}",
            "without --device and --require-device it runs on what is there",
        ) from error


def place_of(models: Sequence[nn.Module]) -> torch.device:
    """Where the models are. Raises UsageError for models that cannot run anywhere."""
    parameters = [parameter for model in models for parameter in model.parameters()]
    if not parameters:
        raise UsageError("the model has no parameters")
    if any(parameter.device.type == "meta" for parameter in parameters):
        raise UsageError("the model is on the meta device: its parameters have no values", "build it on a real device")
    return parameters[0].device


def _has_room(models: Sequence[nn.Module]) -> bool:
    if not torch.cuda.is_available():
        return False
    parameters = [p for model in models for p in model.parameters()]
    needed = sum((_TRAINABLE if p.requires_grad else _FROZEN) * p.numel() * p.element_size() for p in parameters)
    try:
        return needed < (device_memory(torch.device("cuda")) or 0)
    except RuntimeError:  # another process has it for itself, or all of its memory
        return False
