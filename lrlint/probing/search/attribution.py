"""Which groups are to blame: those whose reduction alone repairs, the fewest that do.

Suspects come in the order of the decrease of the loss that their first update promises (−g·u), which named the culprit
in 0.95 of the labelled setups; runs with only them reduced decide. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lrlint.probing.search.rate_ladder import HALF, QUICK, Diagnosis, shortfall_of
from lrlint.probing.search.trial import RunFactory, TrialRun, hopeless, relative_shortfall

#: A fault that showed late is repaired when the run is as long as the one that showed it, up to so many times the length.
PURSUED = 3
#: A reduction repairs when it comes this near to the best run, as a share of what that one gains.
NEAR = 0.3
#: A run that lacks more than such a share after such a share of its steps is given up: of 277 that lacked 0.6 after two
#: thirds, on 160 labelled setups, 16 would have repaired; what was named and recommended without these was right as often.
LIMITS = {1 / 3: 2.0, 1 / 2: 1.2, QUICK: 0.5}
#: So many suspects are tried alone, the first down to this exponent; not one with less than this share of the first one's
#: −g·u (of 82 labelled setups in which one group suffices, none needed that).
SUSPECTS, DOWN_TO = 2, -4.0
LEAST = 0.03
#: A group is given up when the loss, with it reduced, ends above its start by this share: after 25 attempts that ended
#: above twice the start, the next, a decade lower, named the right group once.
WORSE = 0.5
#: A group in whose first step more than so many times the decrease is promised than in those of all others together, even at
#: the best common factor, is to blame alone, though so few steps did not show it: in 8 of 522 labelled setups a larger set was
#: found where there was such a group, and in all 8 its reduction alone made 300 steps healthy.
DOMINANT = 3.5
#: A set with more members is not searched for members that could stay.
PRUNED = 6


@dataclass
class GroupReduction:
    """A set of groups, and the power of ten to multiply their rates by, with which the setup is repaired."""

    groups: tuple[int, ...]
    exponent: float

    def factors(self, count: int, margin: float = 0.0) -> list[float]:
        """Of all ``count`` groups' rates, these so many decades lower still."""
        return [10.0 ** (self.exponent - margin) if g in self.groups else 1.0 for g in range(count)]


class Attribution:
    """Which groups have to be reduced: suspects in order of −g·u of the first step, each tried alone, then together."""

    def __init__(self, trial: RunFactory, found: Diagnosis, steps: int, promises: Sequence[float]) -> None:
        self.trial, self.found, self.steps, self.promises = trial, found, steps, promises
        assert found.best_run is not None
        self.level = found.best_run.level(steps)
        self.opening = trial.start(steps)
        self.gain = max(self.opening - self.level, 0.0)
        self.order = sorted(range(trial.count), key=lambda g: (-promises[g], g))
        least = LEAST * promises[self.order[0]]
        self.suspects = [g for g in self.order[:SUSPECTS] if promises[g] >= least or math.isinf(least)]

    @property
    def everything(self) -> GroupReduction:
        """All groups at the best common factor."""
        return GroupReduction(tuple(range(self.trial.count)), self.found.exponent)

    def guilty(self, blame: GroupReduction) -> tuple[int, ...]:
        """The groups of the set; only the first suspect where it is among them and dominates all others."""
        first, *others = self.order
        own, rest = self.promises[first] * 10.0**self.found.exponent, sum(self.promises[g] for g in others)
        return (first,) if first in blame.groups and own > DOMINANT * rest else blame.groups

    def repairs(self, outcome: TrialRun) -> bool:
        """Whether the run comes near enough to the best one."""
        return outcome.ended == "full" and relative_shortfall(outcome.level(), self.level, self.opening) <= NEAR

    def candidates(self) -> Iterator[GroupReduction]:
        """One group where one seems to suffice, then the smallest set met; that is looked for when the one does not last."""
        if self.trial.count == 1:
            yield self.everything
            return
        for group in self.suspects:
            if blame := self._alone(group):
                yield blame
        yield self._together()

    def _alone(self, group: int) -> GroupReduction | None:
        """The group at the ladder's best factor; the first suspect then lower while that is not enough (of 159 second ones
        3 were named there).
        """
        exponent = lowest = self.found.exponent
        if group == self.suspects[0]:
            lowest = min(DOWN_TO, exponent - 1)
        before = math.inf
        while exponent >= lowest:
            outcome = self.attempt((group,), exponent)
            if self.repairs(outcome):
                return GroupReduction((group,), exponent) if self._lasts(outcome) else None
            level = outcome.level()
            if not outcome.failed and level > min(before - 0.1 * self.gain, self.opening + WORSE * abs(self.opening)):
                break
            before, exponent = level, exponent - 1
        return None

    def _lasts(self, outcome: TrialRun) -> bool:
        """It still repairs in as many steps as the fault took to show."""
        length = min(self.found.shown_after, PURSUED * self.steps)
        if length <= self.steps:
            return True
        return shortfall_of(self.trial, self.found, self.trial.extend(outcome, length)) <= NEAR

    def attempt(self, groups: Iterable[int], exponent: float) -> TrialRun:
        """The run with these groups reduced and all others as configured, given up where it is hopelessly behind."""
        factors = GroupReduction(tuple(groups), exponent).factors(self.trial.count)
        assert self.found.best_run is not None
        asked = {round(share * self.steps): limit for share, limit in LIMITS.items()}
        return self.trial.run(
            factors, self.steps, keep=True, hopeless=hopeless(asked, self.found.best_run, self.opening)
        )

    def largest(self, blame: GroupReduction) -> GroupReduction:
        """The set at the largest factor that repairs, in half decades."""
        while blame.exponent + HALF < -1e-9:
            if not self.repairs(self.attempt(blame.groups, blame.exponent + HALF)):
                break
            blame = GroupReduction(blame.groups, blame.exponent + HALF)
        return blame

    def _together(self) -> GroupReduction:
        """The shortest prefix of the suspects that repairs (doubled, then halved), without those not needed."""
        exponent = self.found.exponent
        low, high, best = 1, len(self.order), self.everything
        while high - low > 1:
            size = min(2 * low, high - 1) if high == len(self.order) else (low + high) // 2
            outcome = self.attempt(self.order[:size], exponent)
            if self.repairs(outcome):
                high, best = size, GroupReduction(tuple(sorted(self.order[:size])), exponent)
            else:
                low = size
        return self._pruned(best)

    def _pruned(self, blame: GroupReduction) -> GroupReduction:
        """Members whose rate can stay are taken out, the least suspicious first."""
        if len(blame.groups) > PRUNED:
            return blame
        for group in [g for g in reversed(self.order) if g in blame.groups]:
            rest = tuple(g for g in blame.groups if g != group)
            if not rest:
                break
            outcome = self.attempt(rest, blame.exponent)
            if self.repairs(outcome):
                blame = GroupReduction(rest, blame.exponent)
        return blame
