"""The loops that are running, and how far each may go.

Every ``for`` and ``while`` of the user's own sources calls in here (see `lrlint.rehearsal.instrument`). A loop ends
after a few iterations in which an optimizer stepped; its length is asked beforehand and stays what it was, so that
nothing the script computes from ``len(loader)`` changes. An outermost loop over a ``range`` goes to its last value for
its last iteration: what begins after a warm-up, or happens at the end, is reached too.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from lrlint.facts import Span


class Position(NamedTuple):
    """One loop around an event: its place (index of the site; -1 - k for a loader), its iteration and length, which
    run of it this is, and how many iterations were visited in that run, this one included.
    """

    site: int
    iteration: int
    length: int | None
    run: int
    visited: int


class Guard(NamedTuple):
    """The lines of a condition's branches, where the condition compares by order (``epoch < 5``)."""

    path: str
    first: int
    last: int


@dataclass(frozen=True)
class Limits:
    """Iterations with a step that an innermost loop (``steps``) and the loops around it (``epochs``) may make."""

    steps: int = 3
    epochs: int = 3

    @property
    def alone(self) -> int:
        """Those of a loop with no other loop that steps around or inside it."""
        return 2 * self.steps


class Run:
    """One pass through a loop."""

    def __init__(self, site: int, length: int | None, frame: int | None, serial: int) -> None:
        self.site, self.length, self.frame, self.serial = site, length, frame, serial
        self.iteration, self.visited = -1, 0
        self.hits = 0  # steps taken inside
        self._counted = self._with_steps = 0
        self.nested = False  # a loop inside it steps

    def advance(self) -> None:
        self.iteration += 1
        self.visited += 1

    def stepped_in(self) -> int:
        """The number of iterations with a step, the one that ends now included."""
        if self.hits > self._counted:
            self._with_steps += 1
            self._counted = self.hits
        return self._with_steps


class Loops:
    """All loops of one rehearsal. ``sites`` are the places, by the index that the instrumented sources pass in."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sites: list[Span] = []
        self.guards: list[Guard] = []
        self.stack: list[Run] = []
        self.lengths: list[int] = []  # of what is inside enumerate(...), tqdm(...): the last call's
        self.steps = 0
        self.cutting = True
        self.visited: dict[int, Run] = {}  # every run that saw a step, by serial
        self.loaders: list[str] = []
        self.batch_sizes: set[int | None] = set()  # of the loaders whose batches were trained on
        self.endless: int | None = None  # the site of a while loop that was cut
        self._serial = 0

    def site(self, span: Span) -> int:
        """A number for the place."""
        self.sites.append(span)
        return len(self.sites) - 1

    def new(self, site: int, length: int | None, frame: int | None) -> Run:
        self._serial += 1
        run = Run(site, length, frame, self._serial)
        self.stack.append(run)
        return run

    # -- what instrumented sources call ----------------------------------------------------------------------------

    def measure(self, iterable: Any) -> Any:
        """The argument of an `enumerate`, `zip` or progress bar, whose length the loop has."""
        length = length_of(iterable)
        if length is not None:
            self.lengths.append(length)
        return iterable

    def over(self, iterable: Any, site: int) -> Iterator[Any]:
        """What a ``for`` runs over."""
        length = length_of(iterable)
        if length is None and self.lengths:
            length = min(self.lengths)
        self.lengths.clear()
        return self._over(iterable, site, length)

    def _over(self, iterable: Iterable[Any], site: int, length: int | None) -> Iterator[Any]:
        run = self.new(site, length, id(sys._getframe(1)))
        source = iter(iterable)
        try:
            for item in source:
                if run.hits:
                    if self._jumps(run, iterable):
                        run.iteration = len(iterable) - 2  # type: ignore[arg-type]
                        run.advance()
                        yield iterable[-1]  # type: ignore[index]
                        return
                    if not self.goes_on(run):
                        return
                run.advance()
                yield item
        finally:
            self.end(run)
            close = getattr(source, "close", None)
            if close is not None and source is not iterable:
                close()

    def enter(self, site: int) -> None:
        """A ``while`` begins."""
        self.new(site, None, id(sys._getframe(1)))

    def tick(self, site: int) -> bool:
        """Whether a ``while`` may test its condition once more."""
        run = self._of(site, id(sys._getframe(1)))
        if run is None:
            return True
        if run.hits and not self.goes_on(run):
            self.endless = site
            return False
        run.advance()
        return True

    def leave(self, site: int) -> None:
        """A ``while`` is over, however it ended."""
        run = self._of(site, id(sys._getframe(1)))
        if run is not None:
            self.end(run)

    # -- what recorders call ---------------------------------------------------------------------------------------

    def stepped(self, frames: set[int]) -> None:
        """An optimizer has stepped: every loop on the call chain has one more (a generator's own loops have not)."""
        self.steps += 1
        live = [run for run in self.stack if run.frame is not None and run.frame in frames]
        for run in live:
            run.hits += 1
            self.visited[run.serial] = run
        for run in live[:-1]:
            run.nested = True
        for run in self.stack:
            if run.frame is None:
                run.hits += 1
                self.visited[run.serial] = run

    def positions(self, frames: set[int]) -> tuple[Position, ...]:
        """The loops around the running code, outermost first; passes over loaders only where there is no other."""
        live = [run for run in self.stack if run.frame is not None and run.frame in frames]
        live = live or [run for run in self.stack if run.frame is None]
        return tuple(Position(run.site, run.iteration, run.length, run.serial, run.visited) for run in live)

    def goes_on(self, run: Run) -> bool:
        """Whether the loop may make one more iteration."""
        if not self.cutting:
            return True
        limits = self.limits
        allowed = limits.epochs if run.nested else limits.steps if self._outer(run) else limits.alone
        return run.stepped_in() < allowed

    def end(self, run: Run) -> None:
        if run in self.stack:
            self.stack.remove(run)

    def _outer(self, run: Run) -> bool:
        """Whether a loop around this one has steps as well."""
        before = self.stack[: self.stack.index(run)] if run in self.stack else []
        return any(other.hits and other.frame is not None for other in before)

    def _jumps(self, run: Run, iterable: Any) -> bool:
        """Whether the last of a few iterations is to be the loop's own last one."""
        if not self.cutting or not isinstance(iterable, range) or not run.nested or self._outer(run):
            return False
        return 1 < self.limits.epochs <= len(iterable) - 1 and run.stepped_in() == self.limits.epochs - 1

    def _of(self, site: int, frame: int) -> Run | None:
        return next((run for run in reversed(self.stack) if run.site == site and run.frame == frame), None)


def length_of(iterable: Any) -> int | None:
    """Its length, or what it gives as a hint; None where neither is known."""
    try:
        return len(iterable)
    except Exception:
        pass
    try:
        hint = operator.length_hint(iterable, -1)
    except Exception:
        return None
    return hint if hint >= 0 else None


def frames_of(frame: FrameType | None) -> set[int]:
    """Identities of a frame and of all frames that led to it."""
    frames = set()
    while frame is not None:
        frames.add(id(frame))
        frame = frame.f_back
    return frames


class LoaderPass:
    """One pass over a DataLoader, cut as loops are. It stands for its iterator in every other respect."""

    def __init__(self, loops: Loops, iterator: Any, loader: DataLoader[Any]) -> None:
        self._iterator, self._loops = iterator, loops
        name, length = type(loader).__name__, length_of(loader)
        self._batch_size = loader.batch_size
        if name not in loops.loaders:
            loops.loaders.append(name)
        self._run = loops.new(-1 - loops.loaders.index(name), length, None)

    def __iter__(self) -> LoaderPass:
        return self

    def __len__(self) -> int:
        return self._run.length if self._run.length is not None else len(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_iterator"], name)

    def __next__(self) -> Any:
        run, loops = self._run, self._loops
        only_looks = loops.steps > 0 and not torch.is_grad_enabled() and run.visited >= loops.limits.steps
        if loops.cutting and (only_looks or run.stepped_in() >= loops.limits.alone):
            loops.end(run)
            raise StopIteration
        if run.hits:
            loops.batch_sizes.add(self._batch_size)
        run.advance()
        try:
            return next(self._iterator)
        except StopIteration:
            loops.end(run)
            raise

    def __del__(self) -> None:
        run, loops = self.__dict__.get("_run"), self.__dict__.get("_loops")
        if run is not None and loops is not None:
            loops.end(run)


def passes(loops: Loops, original: Any) -> Any:
    """`DataLoader.__iter__` whose passes are counted and cut."""

    def __iter__(self: DataLoader[Any]) -> Any:
        return LoaderPass(loops, original(self), self)

    return __iter__
