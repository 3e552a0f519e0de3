"""The target's own measure of a model, beside the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lrlint.errors import UsageError
from lrlint.probing.training.failures import target_code


def metric(function: Callable[..., Any], models: Sequence[nn.Module]) -> Callable[[], float]:
    """A function without arguments that gives the target's metric of the models as they are just now.

    ``function`` takes the model (all of them, where there are several) and returns a number. Raises UsageError for
    something that cannot be called or gives no number, TargetError where it fails.
    """
    if not callable(function):
        raise UsageError(f"metric_fn is a {type(function).__name__}, which cannot be called", "give metric_fn(model)")

    def now() -> float:
        with torch.no_grad(), target_code("metric_fn"):
            answer = function(*models)
        try:
            value = float(answer)
        except (TypeError, ValueError) as error:
            raise UsageError(f"metric_fn gives a {type(answer).__name__}, not a number") from error
        return value if math.isfinite(value) else math.inf

    return now
