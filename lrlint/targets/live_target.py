"""What a target gave: live objects, and what was recorded and declared about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lrlint.facts import Note, Span, Training
from lrlint.facts.optimizers import RejectionKind
from lrlint.targets.preservation.snapshot import preserved
from lrlint.targets.provenance.recorder import ConstructionRecorder
from lrlint.targets.rng_state import Kept
from lrlint.targets.sandbox import user_code

#: (kind, error, optimizer class, tensors concerned, span) of an optimizer that torch refused to build.
Rejected = tuple[RejectionKind, str, str, list[torch.Tensor], "Span | None"]


@dataclass
class LiveTarget:
    """A model and its optimizers, alive.

    ``models`` and ``optimizers`` keep their order; a single one has the key ``""``. ``scheduler_configs`` runs
    parallel to ``schedulers``: what a framework does with each (``interval``, ``frequency``, ``monitor``, ...), {}
    where nothing is known. ``wraps`` gives the class an optimizer was unwrapped from, by its key, ``outer`` that
    wrapper itself. ``train`` is the
    function that trains: it is read, never run. ``owner`` is the LightningModule or Trainer the optimizer came from.
    ``span`` is where the target is defined. ``in_training``: its modules are in the modes they train in. ``paths`` are
    the folders that must be importable when code of the target runs later (see `running`), ``settings`` those of torch that
    the target's code left where it was run apart. ``shared``: the caller goes on using these objects (see `untouched`).
    ``ranks`` are the optimizers of all processes, where they were given.
    """

    models: dict[str, nn.Module] = field(default_factory=dict)
    optimizers: dict[str, Any] = field(default_factory=dict)
    schedulers: list[Any] = field(default_factory=list)
    scheduler_configs: list[dict[str, Any]] = field(default_factory=list)
    batches: Any = None
    loss_fn: Any = None
    metric_fn: Any = None
    example_inputs: Any = None
    train: Any = None
    extra_modules: dict[str, nn.Module] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    recording: ConstructionRecorder = field(default_factory=ConstructionRecorder.none)
    ranks: Sequence[Any] = ()
    rejections: list[Rejected] = field(default_factory=list)
    wraps: dict[str, str] = field(default_factory=dict)
    outer: dict[str, Any] = field(default_factory=dict)
    span: Span | None = None
    in_training: bool = False
    target: str = ""
    owner: Any = None
    notes: list[Note] = field(default_factory=list)
    paths: Sequence[Path] = ()
    settings: Sequence[Kept] = ()
    shared: bool = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run more of the target's code (its batches, loss or forward) as it was run when it was built.

        With the settings of torch that it left. Prints go to standard error, its modules can be imported, and process
        state is restored.
        """
        with user_code(self.paths, name=self.target):
            for apply, value in self.settings:
                apply(value)
            yield

    @contextmanager
    def untouched(self) -> Iterator[list[str]]:
        """Put back what the code in this block changes in objects that the caller goes on using.

        Yields a list that says afterwards what could not be put back. Training steps need a whole copy instead.
        """
        notes: list[str] = []
        if not self.shared:
            yield notes
            return
        with preserved(*self.state(), data=self.data(), lazily=True) as kept:
            yield notes
        notes += kept.notes

    def state(self) -> tuple[list[nn.Module], list[Any], list[Any]]:
        """(models, optimizers, other objects) that running the target's code may change."""
        others = [*self.schedulers, *self.extra_modules.values(), self.loss_fn, self.owner, self.example_inputs]
        present = [item for item in others if item is not None]
        return list(self.models.values()), list(self.optimizers.values()), present

    def data(self) -> list[Any]:
        """The objects that give batches."""
        return [] if self.batches is None else [self.batches]
