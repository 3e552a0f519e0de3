"""What repairs a setup: a rate or a clip value, run again before it is recommended.

Which of the two is decided by the shape of the gradient norms on a quiet run. Measured on 165 labelled setups: where
rates are too high, clipping repairs two of three cases for SGD and none for Adam, Lion and the like; where a few
batches have outlying gradients, it repairs nine of ten whatever the optimizer, and a lower rate two to five. Nothing
here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from lrlint.facts.probe import GradientTail
from lrlint.stability.margins import FLOOR, GAIN, HALF, LONG, Blame, Judgement, Outcome, Trial

#: A largest norm of so many times the median is an outlier, and so large ones are rare below this share of the steps.
TAIL, RARE = 10.0, 0.1
#: The tail is fat, and clipping at the median better, where the 90th percentile is so many times the median.
FAT = 3.0
#: A recommended change has to keep this share of what the best run gained, on batches the search has not seen.
KEEPS = 0.25
#: In a long run it has to come this near to the best one, as a share of what that one gains.
CURED = 0.2
_RETRIES = 4


def tail_of(norms: Sequence[float]) -> GradientTail | None:
    """The tail of gradient norms of quiet steps; None where too few are finite and above 0."""
    values = sorted(value for value in norms if math.isfinite(value) and value > 0)
    if len(values) < 10:
        return None
    middle, p90 = median(values), values[math.ceil(0.9 * len(values)) - 1]
    outliers = sum(value >= TAIL * middle for value in values)
    heavy = 0 < outliers <= max(RARE * len(values), 1)
    return GradientTail(len(values), middle, p90, values[-1], heavy, outliers)


def clip_value(tail: GradientTail) -> float:
    """Where to clip: the 90th percentile of the norms (as the Tuning Playbook does), the median of a fat tail."""
    value = tail.median if tail.p90 > FAT * tail.median else tail.p90
    return float(f"{value:.2g}")


@dataclass(frozen=True)
class Change:
    """A change and the runs that tried it. ``groups`` are positions among the trial's groups."""

    kind: str
    groups: tuple[int, ...]
    factor: float | None = None
    value: float | None = None
    largest: float | None = None
    verified: bool = False
    evidence: tuple[Outcome, ...] = ()


class Adviser:
    """Turns what the search found into changes that hold."""

    def __init__(self, trial: Trial, found: Judgement, steps: int) -> None:
        self.trial, self.found, self.steps = trial, found, steps
        self.ones = (1.0,) * trial.count
        self.long = round(steps * LONG)

    def quiet_tail(self) -> GradientTail | None:
        """The tail on the quietest of the runs at lower rates that is not so slow as to stand still."""
        rungs = {e: r for e, r in self.found.rungs.items() if not r.broke and r.norms}
        quiet = rungs.get(-1.0) or (rungs[max(rungs)] if rungs else None)
        return tail_of(quiet.norms) if quiet is not None else None

    def clip(self, tail: GradientTail) -> tuple[Change, bool]:
        """Clipping with all rates as configured, and whether it is clearly better than the run without."""
        value = clip_value(tail)
        outcome = self.trial.run(self.ones, self.found.length, clip=value)
        level, opening = outcome.level(), self.trial.opening
        gain = max(opening - level, 0.0)
        better = self.found.base.level(self.found.length) - level > GAIN * gain + FLOOR * abs(opening)
        near = level <= opening - (1 - GAIN) * self.found.gain
        change = Change("clip", tuple(range(self.trial.count)), value=value, evidence=(outcome,))
        if not (better and near and gain > 0):
            return change, False
        again = self.trial.run(self.ones, 2 * self.steps, clip=value, seed=1, fresh=True)
        return replace(change, verified=self._holds(again), evidence=(again,)), self._holds(again)

    def rate(self, blame: Blame, order: Sequence[int] = ()) -> Change:
        """Half a decade below the largest factor that held, in a long run and then with other seeds.

        The long run has to come near that of the best common factor. Where it does not the rate falls further, then
        the next suspects of ``order`` join, then all groups' rates fall.
        """
        goal = self._goal()
        exponent, groups, top = blame.exponent - HALF, blame.groups, 10.0**blame.exponent
        tried: tuple[Outcome, ...] = ()
        for attempt in range(_RETRIES):
            change = self._verified(groups, exponent, top, goal)
            if change.verified:
                return change
            tried = tried or change.evidence
            if attempt % 2 and len(groups) < self.trial.count:
                groups = tuple(sorted({*groups, next(g for g in order if g not in groups)}))
            else:
                exponent -= HALF
        everything = tuple(range(self.trial.count))
        best = self.found.exponent
        change = self._verified(everything, best - HALF, 10.0**best, goal)
        return change if change.verified else Change("lr", groups, 10.0**exponent, largest=top, evidence=tried)

    def _goal(self) -> float:
        """What a long run has to reach: nearly the level of the best one."""
        assert self.found.best is not None
        best = self.found.best
        if len(best.losses) < self.long:
            best = self.found.best = self.trial.extend(best, self.long)
        opening = self.trial.opening
        level = min(best.level(), opening)
        return level + CURED * (opening - level) + 1e-3 * abs(opening)

    def _verified(self, groups: tuple[int, ...], exponent: float, top: float, goal: float) -> Change:
        factors = [10.0**exponent if g in groups else 1.0 for g in range(self.trial.count)]
        runs = [self.trial.run(factors, self.long)]
        good = runs[0].level() <= goal
        for seed in (1,) if good else ():
            runs.append(self.trial.run(factors, self.steps, seed=seed, fresh=True))
            good = good and self._holds(runs[-1])
        return Change("lr", groups, 10.0**exponent, largest=top, verified=good, evidence=tuple(runs))

    def _holds(self, outcome: Outcome) -> bool:
        """The run ends well, and is not on its way up."""
        if outcome.broke or not outcome.losses:
            return False
        level, gain = outcome.level(), self.found.gain
        slack = FLOOR * abs(self.trial.opening)
        middle = outcome.level(len(outcome.losses) // 2)
        return level <= self.trial.opening - KEEPS * gain + slack and level <= middle + GAIN * gain + slack
