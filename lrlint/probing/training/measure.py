"""What runs gain on batches that none of them trains on, and losses along the first update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean, stdev

import torch

from lrlint.probing.laboratory import FORWARD, TrialRunner
from lrlint.probing.search.low_rate import Gain

#: Batches that a gain is measured on, and those for losses along an update.
HELD, GLANCE = 16, 4


class Bench:
    """Measurements beside the losses of the runs; `lrlint.probing.search.low_rate.Measurements` for the search."""

    def __init__(self, lab: TrialRunner) -> None:
        self.lab = lab
        self._known: dict[tuple[tuple[float, ...], int, bool], Gain] = {}
        self._start: list[float] = []
        batches = len(lab.batches) // (lab.stepper.training.accumulation or 1)
        self.held = HELD if batches >= 3 * HELD else max(GLANCE, min(HELD, batches))
        self._first_held = max(batches - self.held, 0)
        self._first_glance = max(self._first_held - GLANCE, 0)

    @property
    def opening(self) -> float:
        """The mean loss over the batches that are held back, before any step; NaN where it is not finite."""
        if not self._start:
            self.lab.begin()
            self._start = self._look(self._first_held, self.held)
        return fmean(self._start) if self._start else math.nan

    def gain(self, factors: Sequence[float], steps: int, *, fresh: bool = False) -> Gain:
        """What so many steps at these factors take off that loss. ``fresh``: on other batches, with other random numbers."""
        key = (tuple(factors), steps, fresh)
        if key not in self._known:
            opening = self.opening
            outcome = self.lab.run(factors, steps, seed=int(fresh), fresh=fresh)
            if outcome.failed or len(outcome.losses) < steps or not math.isfinite(opening):
                self._known[key] = Gain(-math.inf, 0.0, outcome)
            else:
                self.lab.stand_at(outcome, steps)
                self.lab.stepper.seed, self.lab.stepper.batches = self.lab.seed, self.lab.batches
                pairs = zip(self._start, self._look(self._first_held, self.held), strict=False)
                taken = [before - after for before, after in pairs]
                finite = bool(taken) and all(map(math.isfinite, taken))
                error = stdev(taken) / math.sqrt(len(taken)) if finite and len(taken) > 1 else 0.0
                self._known[key] = Gain(fmean(taken), error, outcome) if finite else Gain(-math.inf, 0.0, outcome)
        return self._known[key]

    @contextmanager
    def first_update(self, factors: Sequence[float]) -> Iterator[Callable[[int | None, float], float]]:
        """Inside, a function of (group, multiple of its first update) gives the mean loss there, on a few batches.

        None for the group means all together. The rates are those of the peak times the factors, without a ramp.
        """
        lab, stepper = self.lab, self.lab.stepper
        lab.begin()
        held = [[p for p in stepper.optimizers[o].param_groups[g]["params"] if p.requires_grad] for o, g in lab.keys]
        before = [[p.detach().clone() for p in group] for group in held]
        peak = {key: lab.rates[key] * factor for key, factor in zip(lab.keys, factors, strict=True)}
        stepper.step(0, peak, statistics=False)
        lab.steps += 1
        moves = [[p.detach() - w for p, w in zip(*pair, strict=True)] for pair in zip(held, before, strict=True)]

        def at(group: int | None, multiple: float) -> float:
            with torch.no_grad():
                for position, members in enumerate(held):
                    share = multiple if group in (None, position) else 0.0
                    for parameter, start, move in zip(members, before[position], moves[position], strict=True):
                        parameter.copy_(start + share * move if share else start)
            losses = self._look(self._first_glance, GLANCE)
            return fmean(losses) if losses and all(map(math.isfinite, losses)) else math.inf

        try:
            yield at
        finally:
            lab.begin()

    def _look(self, start: int, steps: int) -> list[float]:
        losses = self.lab.stepper.look(start, steps)
        self.lab.steps += round(len(losses) * FORWARD)
        self.lab.moved()
        return losses
