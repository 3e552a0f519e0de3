"""Which groups are to blame: those whose reduction alone repairs, the fewest that do.

Suspects come in the order of the decrease of the loss that their first update promises (−g·u), which named the culprit
in 0.95 of the labelled setups; runs with only them reduced decide. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lrlint.probing.search.rate_ladder import Diagnosis, shortfall_of
from lrlint.probing.search.thresholds import THRESHOLDS
from lrlint.probing.search.trial import RunFactory, TrialRun, hopeless, relative_shortfall


@dataclass
class GroupReduction:
    """A set of groups, and the power of ten to multiply their rates by, with which the setup is repaired."""

    groups: tuple[int, ...]
    exponent: float

    def factors(self, count: int, margin: float = 0.0) -> list[float]:
        """Of all ``count`` groups' rates, these so many decades lower still."""
        return [10.0 ** (self.exponent - margin) if g in self.groups else 1.0 for g in range(count)]


class Attribution:
    """Which groups have to be reduced, for suspects in order of −g·u of the first step.

    1. Reduce each of the first two suspects alone (the first down to 10**−4): repaired → that one.
    2. Else find the shortest prefix of all suspects whose reduction repairs, by doubling, then halving.
    3. Take out of that set whichever member can keep its rate.
    """

    def __init__(self, trial: RunFactory, diagnosis: Diagnosis, steps: int, promises: Sequence[float]) -> None:
        self.trial, self.diagnosis, self.steps, self.promises = trial, diagnosis, steps, promises
        assert diagnosis.best_run is not None
        self.level = diagnosis.best_run.level(steps)
        self.opening = trial.start(steps)
        self.gain = max(self.opening - self.level, 0.0)
        self.order = sorted(range(trial.count), key=lambda g: (-promises[g], g))
        least = THRESHOLDS.least_promise * promises[self.order[0]]
        self.suspects = [g for g in self.order[: THRESHOLDS.suspects] if promises[g] >= least or math.isinf(least)]

    @property
    def everything(self) -> GroupReduction:
        """All groups at the best common factor."""
        return GroupReduction(tuple(range(self.trial.count)), self.diagnosis.exponent)

    def guilty(self, reduction: GroupReduction) -> tuple[int, ...]:
        """The groups of the set; only the first suspect where it is among them and dominates all others."""
        first, *others = self.order
        own, rest = self.promises[first] * 10.0**self.diagnosis.exponent, sum(self.promises[g] for g in others)
        return (first,) if first in reduction.groups and own > THRESHOLDS.dominance * rest else reduction.groups

    def repairs(self, outcome: TrialRun) -> bool:
        """Whether the run comes near enough to the best one."""
        return (
            outcome.ended == "full"
            and relative_shortfall(outcome.level(), self.level, self.opening) <= THRESHOLDS.repair_shortfall
        )

    def candidates(self) -> Iterator[GroupReduction]:
        """Single suspects whose reduction repairs, then the smallest set that does: see the class. The caller stops at the
        first whose reduction lasts.
        """
        if self.trial.count == 1:
            yield self.everything
            return
        for group in self.suspects:
            if reduction := self._alone(group):
                yield reduction
        yield self._together()

    def _alone(self, group: int) -> GroupReduction | None:
        """The group at the ladder's best factor; the first suspect then lower while that is not enough (of 159 second ones
        3 were named there).
        """
        exponent = lowest = self.diagnosis.exponent
        if group == self.suspects[0]:
            lowest = min(THRESHOLDS.lowest_alone, exponent - 1)
        before = math.inf
        while exponent >= lowest:
            outcome = self.attempt((group,), exponent)
            if self.repairs(outcome):
                return GroupReduction((group,), exponent) if self._lasts(outcome) else None
            level = outcome.level()
            if not outcome.failed and level > min(
                before - 0.1 * self.gain, self.opening + THRESHOLDS.worse_than_start * abs(self.opening)
            ):
                break
            before, exponent = level, exponent - 1
        return None

    def _lasts(self, outcome: TrialRun) -> bool:
        """It still repairs in as many steps as the fault took to show."""
        length = min(self.diagnosis.shown_after, THRESHOLDS.longest_repair * self.steps)
        if length <= self.steps:
            return True
        return (
            shortfall_of(self.trial, self.diagnosis, self.trial.extend(outcome, length)) <= THRESHOLDS.repair_shortfall
        )

    def attempt(self, groups: Iterable[int], exponent: float) -> TrialRun:
        """The run with these groups reduced and all others as configured, given up where it is hopelessly behind."""
        factors = GroupReduction(tuple(groups), exponent).factors(self.trial.count)
        assert self.diagnosis.best_run is not None
        limits = {round(share * self.steps): limit for share, limit in THRESHOLDS.give_up}
        return self.trial.run(
            factors, self.steps, keep=True, hopeless=hopeless(limits, self.diagnosis.best_run, self.opening)
        )

    def largest(self, reduction: GroupReduction) -> GroupReduction:
        """The set at the largest factor that repairs, in half decades."""
        while reduction.exponent + THRESHOLDS.exponent_step < -1e-9:
            if not self.repairs(self.attempt(reduction.groups, reduction.exponent + THRESHOLDS.exponent_step)):
                break
            reduction = GroupReduction(reduction.groups, reduction.exponent + THRESHOLDS.exponent_step)
        return reduction

    def _together(self) -> GroupReduction:
        """The shortest prefix of the suspects that repairs (doubled, then halved), without those not needed."""
        exponent = self.diagnosis.exponent
        low, high, best = 1, len(self.order), self.everything
        while high - low > 1:
            size = min(2 * low, high - 1) if high == len(self.order) else (low + high) // 2
            outcome = self.attempt(self.order[:size], exponent)
            if self.repairs(outcome):
                high, best = size, GroupReduction(tuple(sorted(self.order[:size])), exponent)
            else:
                low = size
        return self._pruned(best)

    def _pruned(self, reduction: GroupReduction) -> GroupReduction:
        """Members whose rate can stay are taken out, the least suspicious first."""
        if len(reduction.groups) > THRESHOLDS.largest_pruned:
            return reduction
        for group in [g for g in reversed(self.order) if g in reduction.groups]:
            rest = tuple(g for g in reduction.groups if g != group)
            if not rest:
                break
            outcome = self.attempt(rest, reduction.exponent)
            if self.repairs(outcome):
                reduction = GroupReduction(rest, reduction.exponent)
        return reduction
