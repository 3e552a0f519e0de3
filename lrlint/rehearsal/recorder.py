"""What happens in the training loop, written down as plain events in order."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch.optim import Optimizer

from lrlint.facts import Span
from lrlint.rehearsal.ledger import Ledger
from lrlint.rehearsal.loops import Loops, Position, frames_of
from lrlint.targets.provenance.project import Project
from lrlint.targets.script import Stopped

#: Steps after which a rehearsal ends whatever its loops do (an LR finder before a k-fold of GANs fits in).
MOST_STEPS = 200
#: Backward passes without a step after which it ends.
MOST_BACKWARD = 400


class RehearsalOver(Stopped):
    """The rehearsal is to end here; raised where there is nobody to end it."""


@dataclass
class Event:
    """One event: ``kind``, where in the user's source, and inside which loops. ``data`` is plain.

    ``inside``: it happened in an optimizer's step (``step``) or in a backward pass (``backward``).
    """

    time: int
    kind: str
    span: Span | None
    loops: tuple[Position, ...]
    inside: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.data.get(key, default)


class Recorder:
    """The events of one rehearsal, and the objects they are about.

    ``optimizers`` and ``schedulers`` are numbered in the order in which they were met, and kept alive.
    """

    def __init__(self, project: Project, loops: Loops) -> None:
        self.project, self.loops = project, loops
        self.ledger = Ledger()
        self.events: list[Event] = []
        self.optimizers: list[Any] = []
        self.schedulers: list[Any] = []
        self.own_seconds = 0.0
        self.steps = self.backward = 0
        self.off = False
        self.stepping: list[Any] = []  # optimizers whose step is running, outermost first
        self.in_backward = 0
        self.non_finite: int | None = None
        self.over: Any = None  # called with the reason when a bound is reached
        self._spans: dict[tuple[CodeType, int], Span] = {}

    # -- places ----------------------------------------------------------------------------------------------------

    def where(self) -> tuple[Span | None, set[int]]:
        """The innermost expression of the project's own code that led here, and the frames of the call chain."""
        frame: FrameType | None = sys._getframe(1)
        chain, span = frames_of(frame), None
        while frame is not None:
            if self.project.owns(frame.f_code.co_filename):
                span = self._span(frame)
                break
            frame = frame.f_back
        return span, chain

    def _span(self, frame: FrameType) -> Span:
        key = frame.f_code, frame.f_lasti
        if key not in self._spans:
            self._spans[key] = self.project.frame_span(frame)
        return self._spans[key]

    def guards(self) -> frozenset[int]:
        """The ordering conditions, inside the outermost loop, that the code being run stands under."""
        found: set[int] = set()
        frame: FrameType | None = sys._getframe(1)
        chain = frames_of(frame)
        outermost = next((run for run in self.loops.stack if run.frame in chain), None)
        while frame is not None and outermost is not None:
            at_loop = id(frame) == outermost.frame
            if self.project.owns(frame.f_code.co_filename):
                path, line = self._span(frame).path, frame.f_lineno
                above = self.loops.sites[outermost.site].line if at_loop else 0
                known = enumerate(self.loops.guards)
                found |= {n for n, g in known if g.path == path and g.first <= line <= g.last and g.first > above}
            if at_loop:
                break
            frame = frame.f_back
        return frozenset(found)

    # -- events ----------------------------------------------------------------------------------------------------

    def emit(self, kind: str, **data: Any) -> Event:
        span, chain = self.where()
        inside = "step" if self.stepping else "backward" if self.in_backward else ""
        event = Event(len(self.events), kind, span, self.loops.positions(chain), inside, data)
        self.events.append(event)
        return event

    def look(self, *, values: bool = False, skip_moved: bool = False) -> None:
        """What the script did to gradients and weights by itself since the last event becomes events of its own."""
        changes = self.ledger.look(values=values)
        if changes.cleared:
            self.emit("clear", tensors=changes.cleared)
        if changes.moved and not skip_moved:
            self.emit("moved", tensors=changes.moved)
        if changes.got:
            self.emit("set", tensors=changes.got)
        if changes.edited:
            self.emit("edit", tensors=changes.edited)

    def optimizer(self, optimizer: Any) -> int:
        """Its number; one that was not met before is written down with its groups."""
        for number, known in enumerate(self.optimizers):
            if known is optimizer:
                return number
        self.optimizers.append(optimizer)
        number = len(self.optimizers) - 1
        groups = [self.ledger.numbers(group["params"]) for group in optimizer.param_groups]
        plain = type(optimizer).__name__ == "SGD" and not any(g.get("momentum") for g in optimizer.param_groups)
        label = type(optimizer).__name__
        self.emit(
            "optimizer", optimizer=number, label=label, groups=groups, rates=rates_of(optimizer), stateful=not plain
        )
        return number

    def scheduler(self, scheduler: Any) -> int:
        for number, known in enumerate(self.schedulers):
            if known is scheduler:
                return number
        self.schedulers.append(scheduler)
        number = len(self.schedulers) - 1
        drives = getattr(scheduler, "optimizer", None)
        driven = self.optimizer(drives) if isinstance(drives, Optimizer) and hasattr(drives, "param_groups") else None
        self.emit("scheduler", scheduler=number, label=type(scheduler).__name__, optimizer=driven)
        return number

    def finished_step(self, chain: set[int]) -> None:
        self.steps += 1
        self.loops.stepped(chain)
        if self.steps >= MOST_STEPS:
            self.stop(f"{MOST_STEPS} steps were taken")

    def stop(self, why: str) -> None:
        """A bound is reached."""
        if self.over is None:
            raise RehearsalOver(why)
        self.over(why)

    @contextmanager
    def own(self) -> Iterator[bool]:
        """Code of lrlint's own: timed, without gradients; yields whether there is anything to record."""
        if self.off:
            yield False
            return
        started = time.thread_time()
        try:
            with torch.no_grad():
                yield True
        finally:
            self.own_seconds += time.thread_time() - started


def rates_of(optimizer: Any) -> list[float]:
    """The rate of each group; nan for one without."""
    groups = getattr(optimizer, "param_groups", [])
    return [float(group["lr"]) if "lr" in group else float("nan") for group in groups]
