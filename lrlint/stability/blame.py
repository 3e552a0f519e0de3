"""Which groups are to blame: those whose reduction alone repairs, the fewest that do.

Suspects come in the order of the decrease of the loss that their first update promises (−g·u), which named the culprit
in 0.95 of the labelled setups; runs with only them reduced decide. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lrlint.stability.margins import FLOOR, HALF, Judgement
from lrlint.stability.outcome import TINY, Outcome, Trial

#: A run with some groups reduced that still makes up this share of its arrears goes on, up to so many times the length.
MENDS, PURSUED = 0.15, 3
#: A reduction repairs when it comes this near to the best run, as a share of what that one gains.
NEAR = 0.3
#: So many suspects are tried alone, down to this exponent.
SUSPECTS, DEEPEST = 2, -4.0
#: A set with more members is not searched for members that could stay.
PRUNED = 6


class Pursuit:
    """Runs beside the best one of a `Judgement`: how far they are behind, and whether more steps bring them near."""

    def __init__(self, trial: Trial, found: Judgement, steps: int) -> None:
        self.trial, self.found, self.steps = trial, found, steps

    def arrears(self, run: Outcome) -> float:
        """What the run lacks of what the best one gains in as many steps, as a share of that."""
        if run.broke:
            return math.inf
        opening = self.trial.start(len(run.losses))
        best = min(self._best(len(run.losses)), opening)
        return (run.level() - best) / max(opening - best, FLOOR * abs(opening), TINY)

    def follow(self, run: Outcome, share: float) -> Outcome:
        """The run, longer until its arrears are no more than ``share``, or no longer shrink."""
        before = math.inf
        while not run.broke and len(run.losses) + self.steps <= PURSUED * self.steps:
            now = self.arrears(run)
            if now <= share or now > (1 - MENDS) * before:
                break
            before, run = now, self.trial.extend(run, len(run.losses) + self.steps)
        return run

    def _best(self, length: int) -> float:
        best = self.found.best
        assert best is not None
        if len(best.losses) < length and not best.broke:
            best = self.found.best = self.trial.extend(best, length)
        return best.level(length)


@dataclass
class Blame:
    """A set of groups, and the power of ten to multiply their rates by, with which the setup is repaired."""

    groups: tuple[int, ...]
    exponent: float


class Attribution:
    """Which groups have to be reduced: suspects in order of −g·u of the first step, each tried alone, then together."""

    def __init__(self, trial: Trial, found: Judgement, steps: int, suspicion: Sequence[float]) -> None:
        self.trial, self.found, self.steps = trial, found, steps
        assert found.best is not None
        self.pursuit = Pursuit(trial, found, steps)
        self.level = found.best.level(steps)
        self.opening = trial.start(steps)
        self.gain = max(self.opening - self.level, 0.0)
        self.order = sorted(range(trial.count), key=lambda g: (-suspicion[g], g))
        self._tried: dict[tuple[tuple[int, ...], float], Outcome] = {}

    @property
    def everything(self) -> Blame:
        """All groups at the best common factor."""
        return Blame(tuple(range(self.trial.count)), self.found.exponent)

    def repairs(self, outcome: Outcome) -> bool:
        """Whether the run comes near enough to the best one."""
        return outcome.level() <= self.level + NEAR * self.gain + 1e-3 * abs(self.opening)

    def candidates(self) -> Iterator[Blame]:
        """One group where one seems to suffice, then the smallest set met; that is looked for when the one does not last."""
        if self.trial.count == 1:
            yield self.everything
            return
        suspects = self.order[:SUSPECTS]
        for search in (self._alone, self._patiently):
            for group in suspects:
                if blame := search(group):
                    yield blame
        yield self._together()

    def _patiently(self, group: int) -> Blame | None:
        """The group alone in a longer run: what the others did at first may heal."""
        finite = [(o.level(), e, o) for (gs, e), o in self._tried.items() if gs == (group,) and not o.broke]
        if not finite:
            return None
        _, exponent, outcome = min(finite, key=lambda item: item[:2])
        longer = self.pursuit.follow(outcome, NEAR)
        return Blame((group,), exponent) if self.pursuit.arrears(longer) <= NEAR else None

    def _alone(self, group: int) -> Blame | None:
        """The group at the ladder's best factor, then lower while that is not enough."""
        exponent = self.found.exponent
        before = math.inf
        while exponent >= min(DEEPEST, self.found.exponent - 1):
            outcome = self.attempt((group,), exponent)
            if self.repairs(outcome):
                return Blame((group,), exponent) if self._lasts(outcome) else None
            level = outcome.level()
            if level > before - 0.1 * self.gain and not outcome.broke:
                break
            before, exponent = level, exponent - 1
        return None

    def _lasts(self, outcome: Outcome) -> bool:
        """A fault that showed late is repaired when the run is as long as the one that showed it."""
        length = min(self.found.shown, PURSUED * self.steps)
        if length <= self.steps:
            return True
        return self.pursuit.arrears(self.trial.extend(outcome, length)) <= NEAR

    def attempt(self, groups: Iterable[int], exponent: float) -> Outcome:
        """The run with these groups reduced and all others as configured."""
        key = (tuple(sorted(groups)), exponent)
        if key not in self._tried:
            factors = [10.0**exponent if g in key[0] else 1.0 for g in range(self.trial.count)]
            self._tried[key] = self.trial.run(factors, self.steps, keep=True)
        return self._tried[key]

    def largest(self, blame: Blame) -> Blame:
        """The set at the largest factor that repairs, in half decades."""
        while blame.exponent + HALF < -1e-9:
            if not self.repairs(self.attempt(blame.groups, blame.exponent + HALF)):
                break
            blame = Blame(blame.groups, blame.exponent + HALF)
        return blame

    def _together(self) -> Blame:
        """The shortest prefix of the suspects that repairs (doubled, then halved), without those not needed."""
        exponent = self.found.exponent
        low, high, best = 1, len(self.order), self.everything
        while high - low > 1:
            size = min(2 * low, high - 1) if high == len(self.order) else (low + high) // 2
            outcome = self.attempt(self.order[:size], exponent)
            if self.repairs(outcome):
                high, best = size, Blame(tuple(sorted(self.order[:size])), exponent)
            else:
                low = size
        return self._pruned(best)

    def _pruned(self, blame: Blame) -> Blame:
        """Members whose rate can stay are taken out, the least suspicious first."""
        if len(blame.groups) > PRUNED:
            return blame
        for group in [g for g in reversed(self.order) if g in blame.groups]:
            rest = tuple(g for g in blame.groups if g != group)
            if not rest:
                break
            outcome = self.attempt(rest, blame.exponent)
            if self.repairs(outcome):
                blame = Blame(rest, blame.exponent)
        return blame
