"""What loading the declared checkpoint would change in the run that is about to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OptionChange:
    """An option of one group that a loaded state replaces: a number, a flag or a list of numbers.

    ``origin``, for a rate only, is the one that the saved rate decayed from.
    """

    group: int
    option: str
    configured: Any
    loaded: Any
    origin: float | None = None

    def data(self) -> dict[str, Any]:
        """For the data of a finding."""
        found = {key: getattr(self, key) for key in ("group", "option", "configured", "loaded")}
        return found if self.origin is None else {**found, "origin": self.origin}


@dataclass(frozen=True, slots=True)
class ArgumentChange:
    """An argument of a torch scheduler that its loaded state replaces: a number, a string or a list of numbers."""

    class_name: str
    option: str
    configured: Any
    loaded: Any

    def data(self) -> dict[str, Any]:
        """For the data of a finding."""
        return {key: getattr(self, key) for key in ("class_name", "option", "configured", "loaded")}


@dataclass(frozen=True, slots=True)
class ResumedScheduler:
    """What a scheduler of the target (its ``index``) does after the load.

    ``loaded``: the checkpoint has its state. ``base_lrs`` are the rates it will scale then, ``lr`` those after the load
    and ``next_lr`` those after its next step, one per group. ``foreign`` is the class whose arguments the saved state
    does not have, so that another class saved it.
    """

    index: int
    loaded: bool
    base_lrs: tuple[float, ...] = ()
    lr: tuple[float | None, ...] = ()
    next_lr: tuple[float | None, ...] = ()
    changes: tuple[ArgumentChange, ...] = ()
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class ResumedOptimizer:
    """What the load does to one optimizer (its ``index`` in the target).

    ``refused`` says why torch would not load it. ``names``: the first saved parameter name that stands at the place of
    another, as (saved, present). ``shapes`` of the ``parameters`` saved states land on a parameter of another shape.
    """

    index: int
    refused: str = ""
    changes: tuple[OptionChange, ...] = ()
    names: tuple[str, str] | None = None
    shapes: int = 0
    parameters: int = 0
    scheduler: ResumedScheduler | None = None


@dataclass(frozen=True, slots=True)
class ResumeFacts:
    """The file's name, and one record per saved optimizer that the target has."""

    checkpoint: str
    optimizers: tuple[ResumedOptimizer, ...] = ()
