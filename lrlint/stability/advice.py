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
from lrlint.stability.blame import Blame, Pursuit
from lrlint.stability.margins import FLOOR, GAIN, HALF, LONG, Judgement, Outcome, Trial

#: A largest norm of so many times the median is an outlier, and so large ones are rare below this share of the steps.
TAIL, RARE = 10.0, 0.1
#: The tail is fat, and clipping at the median better, where the 90th percentile is so many times the median.
FAT = 3.0
#: A recommended change has to keep this share of what the best run gained, on batches the search has not seen.
KEEPS = 0.25
#: In a long run it has to come this near to the best one, as a share of what that one gains.
CURED = 0.1


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
        self.pursuit = Pursuit(trial, found, steps)

    def quiet_tail(self) -> GradientTail | None:
        """The tail on the quietest of the runs at lower rates that is not so slow as to stand still."""
        rungs = {e: r for e, r in self.found.rungs.items() if not r.broke and r.norms}
        quiet = rungs.get(-1.0) or (rungs[max(rungs)] if rungs else None)
        return tail_of(quiet.norms) if quiet is not None else None

    def clip(self, tail: GradientTail) -> tuple[Change, bool]:
        """Clipping with all rates as configured, and whether it is clearly better than the run without."""
        value = clip_value(tail)
        length = self.found.length if tail.heavy else self.steps
        outcome = self.trial.run(self.ones, length, clip=value)
        level, opening = outcome.level(), self.trial.opening
        gain = max(opening - level, 0.0)
        better = self.found.base.level(length) - level > GAIN * gain + FLOOR * abs(opening)
        best = self.found.best.level(length) if self.found.best is not None else opening
        near = level <= opening - (1 - GAIN) * max(opening - best, 0.0)
        change = Change("clip", tuple(range(self.trial.count)), value=value, evidence=(outcome,))
        if not (better and near and gain > 0):
            return change, False
        again = self.trial.run(self.ones, 2 * self.steps, clip=value, seed=1, fresh=True)
        return replace(change, verified=self._holds(again), evidence=(again,)), self._holds(again)

    def rate(self, blame: Blame) -> Change:
        """Half a decade below the largest factor that held, in a long run and then with another seed.

        The long run has to come near that of the best common factor. Where it does not, that largest factor itself is
        tried, or a lower one, whichever went better.
        """
        groups, exponent = blame.groups, blame.exponent
        first = self._verified(groups, exponent - HALF, exponent)
        if first.verified:
            return first
        here = self.trial.run(self._factors(groups, exponent), self.long)
        other = exponent if here.level() <= first.evidence[0].level(self.long) else exponent - 2 * HALF
        second = self._verified(groups, other, exponent)
        return second if second.verified else first

    def _factors(self, groups: tuple[int, ...], exponent: float) -> list[float]:
        return [10.0**exponent if g in groups else 1.0 for g in range(self.trial.count)]

    def _verified(self, groups: tuple[int, ...], exponent: float, top: float) -> Change:
        factors, opening = self._factors(groups, exponent), self.trial.opening
        runs = [self.pursuit.follow(self.trial.run(factors, self.long, keep=True), CURED)]
        good = self.pursuit.arrears(runs[0]) <= CURED and opening - runs[0].level() > FLOOR * abs(opening)
        if good:
            runs.append(self.trial.run(factors, self.steps, seed=1, fresh=True))
            good = self._holds(runs[1], runs[0].level(self.steps))
        return Change("lr", groups, 10.0**exponent, largest=10.0**top, verified=good, evidence=tuple(runs))

    def _holds(self, outcome: Outcome, usual: float = -math.inf) -> bool:
        """The run ends well (or as well as the ``usual`` level), and is not on its way up."""
        if outcome.broke or not outcome.losses:
            return False
        level, gain = outcome.level(), self.found.gain
        slack = FLOOR * abs(self.trial.opening)
        middle = outcome.level(len(outcome.losses) // 2)
        well = max(self.trial.opening - KEEPS * gain, usual + KEEPS * gain)
        return level <= well + slack and level <= middle + GAIN * gain + slack
