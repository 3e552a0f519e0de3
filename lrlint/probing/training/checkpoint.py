"""A probe from the middle of a training: the states in a checkpoint file, put into the target's objects."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lrlint.errors import UsageError
from lrlint.probing.training.statistics import Key

_MODEL = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "module")
_OPTIMIZER = ("optimizer", "optimizer_state_dict", "optimizer_states", "optimizers", "optim", "optimizer_state")
_SCHEDULER = (
    "scheduler",
    "lr_scheduler",
    "scheduler_state_dict",
    "lr_schedulers",
    "schedulers",
    "lr_scheduler_state_dict",
)
_HINT = "it needs the model's state_dict, and the optimizer's to go on at its rates and from its moments"


@dataclass
class Checkpoint:
    """The contents of a checkpoint file; `load` puts them into place."""

    name: str
    models: list[Mapping[str, Any]]
    optimizers: list[Mapping[str, Any]]
    schedulers: list[Mapping[str, Any]]

    @classmethod
    def read(cls, path: str | Path) -> Checkpoint:
        """The states in a file that ``torch.save`` wrote: a mapping with the usual keys (also Lightning's), or the state of
        a model alone. Only tensors and plain data are read, no code is run. Raises UsageError.
        """
        file = Path(path)
        try:
            data = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UsageError(f"there is no checkpoint {file}") from error
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise UsageError(f"{file} cannot be read as a checkpoint: {str(error).splitlines()[0]}", _HINT) from error
        if not isinstance(data, Mapping):
            raise UsageError(f"{file} holds a {type(data).__name__}, not a checkpoint", _HINT)
        if data and all(isinstance(value, torch.Tensor) for value in data.values()):
            return cls(file.name, [data], [], [])
        checkpoint = cls(file.name, _states(data, _MODEL), _states(data, _OPTIMIZER), _states(data, _SCHEDULER))
        if not checkpoint.models:
            raise UsageError(f"{file} has no state of a model among {', '.join(map(str, data))}", _HINT)
        return checkpoint

    def load(
        self, models: Sequence[nn.Module], optimizers: Sequence[Any], schedulers: Sequence[Any]
    ) -> dict[Key, float] | None:
        """Put the states into the objects; the rates that training has there, None where the file has no optimizer.

        Raises UsageError where they do not fit.
        """
        self._into("model", models, self.models, required=True)
        self._into("optimizer", optimizers, self.optimizers)
        self._into("scheduler", schedulers, self.schedulers)
        if not self.optimizers:
            return None
        rates = {
            (o, g): group["lr"]
            for o, optimizer in enumerate(optimizers)
            for g, group in enumerate(optimizer.param_groups)
            if "lr" in group
        }
        return {key: float(rate) for key, rate in rates.items()}

    def _into(
        self, what: str, objects: Sequence[Any], states: Sequence[Mapping[str, Any]], required: bool = False
    ) -> None:
        if not states and not required:
            return
        if len(states) != len(objects):
            if what == "scheduler":
                return  # the rates stand in the optimizer
            raise UsageError(f"{self.name} has the state of {len(states)} {what}s, the target has {len(objects)}")
        for target, state in zip(objects, states, strict=True):
            try:
                target.load_state_dict(state)
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise UsageError(f"the {what} in {self.name} does not fit: {_first_lines(error)}") from error


def _states(data: Mapping[str, Any], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Under the first of these names: one state, or several in a list or a mapping."""
    state = next((data[name] for name in names if data.get(name)), None)
    if state is None:
        return []
    if isinstance(state, (list, tuple)):
        return list(state)
    values = list(state.values())
    several = values and all(isinstance(value, Mapping) and value for value in values) and "param_groups" not in state
    return list(values) if several else [state]


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
