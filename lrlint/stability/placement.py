"""The device that steps run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lrlint.errors import DeviceError, UsageError


def placed(models: Sequence[nn.Module], optimizers: Sequence[Any], device: torch.device | str | None) -> torch.device:
    """The device to run on; models and optimizer states are moved there unless it is None or where they are.

    Raises UsageError for models that cannot run anywhere, DeviceError for a device that is not there.
    """
    if not models or not optimizers:
        raise UsageError("there is no model or no optimizer to take steps with")
    parameters = [parameter for model in models for parameter in model.parameters()]
    if not parameters:
        raise UsageError("the model has no parameters")
    if any(parameter.device.type == "meta" for parameter in parameters):
        raise UsageError("the model is on the meta device: its parameters have no values", "build it on a real device")
    now = parameters[0].device
    if device is None:
        return now
    wanted = torch.device(device)
    _require(wanted)
    if wanted.type == now.type and wanted.index in (None, now.index):
        return now
    for model in models:
        model.to(wanted)
    for optimizer in optimizers:
        if optimizer.state:
            optimizer.load_state_dict(optimizer.state_dict())  # it casts each state the way its class wants it
    return next(parameter.device for model in models for parameter in model.parameters())


def _require(device: torch.device) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(f"the device {str(device)!r} is not there: {str(error).splitlines()[0]}") from error
