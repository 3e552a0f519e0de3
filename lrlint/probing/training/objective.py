"""From a batch to its loss, whichever way the target states it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lrlint.errors import UsageError
from lrlint.probing.training.failures import target_code

_HINT = "give loss_fn(model, batch), a function that returns the loss of one batch"
_MODEL = ("model", "models", "net", "network", "module", "m")
_BATCH = ("batch", "data", "inputs", "sample", "samples", "b")

Loss = Callable[[Any, int], torch.Tensor]


def objective(models: Sequence[nn.Module], loss_fn: Any = None) -> Loss:
    """The function (batch, step) -> loss, a scalar that a gradient can be taken of.

    ``loss_fn`` may be a function of (model, batch) (or of all models and the batch), of the batch alone, or a criterion
    of (output, target), which is called on ``model(input)`` and the target of an (input, target) batch. Without one the
    model must be a LightningModule, or return its loss. The function raises UsageError when there is no such loss, and
    TargetError when the target's own code fails. Where it comes with other losses in a mapping, the function has these of
    its last call as ``terms`` (name → detached scalar).
    """
    if loss_fn is None:
        compute = _training_step(models[0]) if _is_lightning(models[0]) else _own_loss(models)
    elif _is_criterion(loss_fn, models):
        compute = _by_criterion(models, loss_fn)
    else:
        compute = _by_function(models, loss_fn)

    called = [*(model.forward for model in models), loss_fn, getattr(loss_fn, "forward", None)]

    def guarded(batch: Any, step: int) -> Any:
        try:
            return compute(batch, step)
        except TypeError as error:
            if _misuse(error, called):
                raise UsageError(f"a batch does not fit: {error}", _HINT) from error
            raise

    def loss_of(batch: Any, step: int) -> torch.Tensor:
        with target_code("computing the loss"):
            output = guarded(batch, step)
            loss_of.terms = terms_of(output)  # type: ignore[attr-defined]
            return checked(output)

    return loss_of


def terms_of(output: Any) -> dict[str, torch.Tensor]:
    """The losses beside the whole in a mapping: scalars that a gradient can be taken of."""
    if not isinstance(output, Mapping):
        return {}
    scalars = {str(name): v for name, v in output.items() if isinstance(v, torch.Tensor) and v.numel() == 1}
    return {name: v.detach() for name, v in scalars.items() if v.requires_grad and name != "loss"}


def checked(loss: Any) -> torch.Tensor:
    """The loss, a floating-point scalar with a gradient. Raises UsageError."""
    if isinstance(loss, Mapping):
        loss = loss.get("loss")
    if not isinstance(loss, torch.Tensor):
        raise UsageError(f"the loss is {_described(loss)}, not a tensor", _HINT)
    if loss.numel() != 1:
        raise UsageError(f"the loss has shape {tuple(loss.shape)}, not one value", "reduce it: loss.mean()")
    if not loss.is_floating_point():
        raise UsageError(f"the loss has dtype {loss.dtype}, which has no gradient", _HINT)
    if not loss.requires_grad:
        raise UsageError(
            "the loss has no gradient: nothing trainable leads to it",
            "look for torch.no_grad(), .detach(), .item() or frozen parameters on its way",
        )
    return loss.reshape(())


def _misuse(error: Exception, functions: Sequence[Any]) -> bool:
    """Whether one of these functions was called with other arguments than it takes (not something inside it)."""
    names = {getattr(function, "__qualname__", "?") for function in functions}
    return isinstance(error, TypeError) and any(str(error).startswith(f"{name}()") for name in names)


def _is_lightning(model: nn.Module) -> bool:
    return any(base.__name__ == "LightningModule" for base in type(model).__mro__)


def _training_step(module: Any) -> Callable[[Any, int], Any]:
    if not getattr(module, "automatic_optimization", True):
        raise UsageError("the LightningModule optimizes manually: its steps cannot be taken for it", _HINT)
    parameters = inspect.signature(module.training_step).parameters
    variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values())
    takes_index = "batch_idx" in parameters or len(parameters) > 1 or variadic  # as Lightning decides it

    def compute(batch: Any, step: int) -> Any:
        with _silent_log(module):
            return module.training_step(batch, step) if takes_index else module.training_step(batch)

    return compute


class _silent_log:
    """Without a running Trainer there is nothing to log to, and `self.log` would complain."""

    def __init__(self, module: Any) -> None:
        self._fields = vars(module)

    def __enter__(self) -> None:
        self._fields.update(log=_nothing, log_dict=_nothing)

    def __exit__(self, *error: object) -> None:
        self._fields.pop("log", None)
        self._fields.pop("log_dict", None)


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _own_loss(models: Sequence[nn.Module]) -> Callable[[Any, int], Any]:
    if len(models) > 1:
        raise UsageError("several models and no loss function", _HINT.replace("model,", "models,"))

    def compute(batch: Any, step: int) -> Any:
        output = _apply(models[0], batch)
        loss = _loss_in(output)
        return {**output, "loss": loss} if isinstance(output, Mapping) else loss

    return compute


def _apply(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, (tuple, list)):
        return model(*batch)
    return model(batch)


def _loss_in(output: Any) -> Any:
    """The loss in a model's output: ``.loss``, ``["loss"]``, a dict of losses, or the only scalar of a tuple."""
    if isinstance(output, torch.Tensor) and output.numel() == 1:
        return output
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is not None:
        return loss
    values = list(output.values()) if isinstance(output, Mapping) else output
    if isinstance(values, (tuple, list)):
        scalars = [v for v in values if isinstance(v, torch.Tensor) and v.ndim == 0 and v.requires_grad]
        if len(scalars) == 1:
            return scalars[0]
        if isinstance(output, Mapping) and scalars and len(scalars) == len(values):
            return torch.stack(scalars).sum()  # torchvision's detectors
    raise UsageError(f"the model returns {_described(output)} without a loss", _HINT)


def _is_criterion(loss_fn: Any, models: Sequence[nn.Module]) -> bool:
    if isinstance(loss_fn, nn.Module):
        return all(loss_fn is not model for model in models)
    if getattr(loss_fn, "__module__", "") in ("torch.nn.functional", "torch._C._nn"):
        return True
    names = _positional(loss_fn)
    return len(names) >= 2 and names[0] not in _MODEL and _reads(names[0], ("out", "pred", "logit", "y_hat", "input"))


def _reads(name: str, parts: Sequence[str]) -> bool:
    return any(name.lower().startswith(part) for part in parts) or name in ("y", "x", "yhat")


def _positional(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]


def _by_criterion(models: Sequence[nn.Module], criterion: Any) -> Callable[[Any, int], Any]:
    if len(models) > 1:
        raise UsageError("a criterion cannot tell which of several models gives the output", _HINT)

    def compute(batch: Any, step: int) -> Any:
        inputs, target = _split(batch)
        return criterion(_apply(models[0], inputs), target)

    return compute


def _split(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, (tuple, list)) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), batch[-1]
    if isinstance(batch, Mapping):
        for name in ("labels", "label", "target", "targets", "y"):
            if name in batch:
                return {key: value for key, value in batch.items() if key != name}, batch[name]
    raise UsageError(f"a criterion needs (input, target) batches, these are {_described(batch)}", _HINT)


def _by_function(models: Sequence[nn.Module], function: Any) -> Callable[[Any, int], Any]:
    if not callable(function):
        raise UsageError(f"loss_fn is {_described(function)}, which cannot be called", _HINT)
    names = _positional(function)
    if len(names) == 1:
        return lambda batch, step: function(batch)
    if len(models) > 1 and len(names) == 2:
        return lambda batch, step: function(list(models), batch)
    return lambda batch, step: function(*models, batch)


def _described(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
