"""What runs at reduced rates say: does the setup hold, how far is it from not holding, and which groups are to blame.

A run as configured is compared with runs from the same state, on the same batches and with the same random numbers, in
which only rates differ. On 373 labelled setups such interventions beat every passive signal (loss, norms, sharpness):
0.96 against 0.94 and less of the area under the ROC curve. Nothing here imports torch: `Trial` does the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

#: Sick: a lower rate is better by this share of what it gains, and by this share of the initial loss.
GAIN, FLOOR = 0.3, 0.02
#: The same once both runs went on to `LONG` times the length: early instabilities that heal are no fault.
CONFIRMED = 0.5
LONG = 2
#: A run that still makes up this share of its arrears goes on, up to so many times the length.
HEALS, PATIENCE = 0.25, 5
#: A loss above this share of the initial one is no progress.
LOST = 0.95
#: A reduction repairs when it comes this near to the best run, as a share of what that one gains.
NEAR = 0.3
#: The same for a single group that is given more time: what the others did at first has to heal.
PATIENT = 0.4
#: From this share on, both go on before anything is said.
SUSPECT = 0.15
#: A run that took away this share of the initial loss learns well; if slower is not better it is not looked at again.
LEARNS = 0.3
#: Exponents of ten: the lowest of the ladder, and its finest step.
LOWEST = -3.0
HALF = 0.5
#: So many suspects are tried alone, down to this exponent.
SUSPECTS, DEEPEST = 2, -4.0
#: A set with more members is not searched for members that could stay.
PRUNED = 6
STRESS = 0.5
#: A loss this many times the first is beyond repair; ten times the first is, when it lasts for so many steps.
BEYOND, SPIKE = 1e3, 5


@dataclass(frozen=True)
class Outcome:
    """One run. ``losses`` are its losses by step, ``norms`` the norms of the whole gradient."""

    factors: tuple[float, ...]
    losses: tuple[float, ...]
    norms: tuple[float, ...] = ()
    clip: float | None = None
    seed: int = 0
    fresh: bool = False
    ended: str = "full"
    number: int = -1  # of the run, in order

    @property
    def broke(self) -> bool:
        return self.ended != "full"

    def level(self, length: int | None = None) -> float:
        """`typical` closing loss of the first ``length`` steps; infinite for a run that broke before."""
        losses = self.losses if length is None else self.losses[:length]
        if self.broke and len(losses) == len(self.losses):
            return math.inf
        return typical(losses[-closing(len(losses)) :])


def exploded(losses: Sequence[float], patient: bool = False) -> bool:
    """Whether a run is beyond repair: far above its start, for long enough that a spike would have healed.

    Healthy runs were seen to stay at ten times their initial loss for a while and come back (Adagrad's first steps, a
    residual network under Adam): the run as configured is given more ``patience``.
    """
    if len(losses) < 2:
        return False
    start = max(abs(losses[0]), 1e-12)
    if patient:
        return losses[-1] > BEYOND**2 * start
    return losses[-1] > BEYOND * start or (len(losses) > SPIKE and min(losses[-SPIKE:]) > 10 * start)


def typical(losses: Iterable[float]) -> float:
    """The mean. A loss far above the median counts as three times that: its batch may be an outlier."""
    values = sorted(losses)
    if not values:
        return math.inf
    middle = median(values)
    return sum(min(loss, middle + 2 * abs(middle)) for loss in values) / len(values)


def closing(steps: int) -> int:
    """How many steps at the end of a run its level is taken over."""
    return max(1, min(6, steps // 5))


class Trial(Protocol):
    """Runs the setup from its own state. ``opening``: the mean loss there; ``count``: groups that have a rate."""

    opening: float
    count: int

    def run(
        self,
        factors: Sequence[float],
        steps: int,
        *,
        clip: float | None = None,
        seed: int = 0,
        fresh: bool = False,
        keep: bool = False,
    ) -> Outcome: ...

    def extend(self, outcome: Outcome, steps: int) -> Outcome:
        """The same run with more steps, ``steps`` in all."""


@dataclass
class Judgement:
    """What the runs at common factors say. ``best`` is the run with the lowest level, ``gain`` what it took away."""

    base: Outcome
    rungs: dict[float, Outcome] = field(default_factory=dict)
    best: Outcome | None = None
    exponent: float = 0.0
    gain: float = 0.0
    score: float = 0.0
    sick: bool = False
    course: str = "learns"
    confirmed: bool = False
    length: int = 0


class Ladder:
    """The run as configured, and those with all rates reduced, searched as if the loss had one minimum over the rate."""

    def __init__(self, trial: Trial, steps: int) -> None:
        self.trial, self.steps = trial, steps

    def judge(self) -> Judgement:
        """The verdict at common factors, confirmed by longer runs where it is not clear."""
        trial = self.trial
        base = trial.run([1.0] * trial.count, self.steps, keep=True)
        found = Judgement(base, length=self.steps)
        level, slower = base.level(), self._rung(found, -1.0).level()
        if base.broke or slower < level or level > LOST * trial.opening:
            self._below(found)
            self._linger(found)
        elif not self._clearly(level, slower):
            self._rung(found, -HALF)
        self._decide(found)
        if found.best is not None and not base.broke and self._lost(found) > SUSPECT * found.gain + self._floor / 2:
            self._confirm(found)
        return found

    def _below(self, found: Judgement) -> None:
        """Slower is better: down to where it no longer is."""
        exponent, above = -1.0, found.rungs[-1.0].level()
        while exponent > LOWEST:
            exponent -= 1
            level = self._rung(found, exponent).level()
            if level < (1 - LEARNS) * self.trial.opening or (level >= above and math.isfinite(level)):
                break
            above = level

    def _linger(self, found: Judgement) -> None:
        """Where no rate takes anything off the loss yet, the higher of those that hold get more time."""
        holding = sorted((e for e, rung in found.rungs.items() if not rung.broke), reverse=True)
        if holding and min(found.rungs[e].level() for e in holding) > self.trial.opening - self._floor:
            for exponent in holding[:2]:
                found.rungs[exponent] = self.trial.extend(found.rungs[exponent], round(self.steps * LONG))

    def _clearly(self, level: float, slower: float) -> bool:
        """The base learns well, and slower learns much less."""
        opening = self.trial.opening
        return level < (1 - LEARNS) * opening and slower - level > LEARNS * (opening - level)

    def _rung(self, found: Judgement, exponent: float) -> Outcome:
        found.rungs[exponent] = self.trial.run([10.0**exponent] * self.trial.count, self.steps, keep=True)
        return found.rungs[exponent]

    @property
    def _floor(self) -> float:
        return FLOOR * abs(self.trial.opening)

    def _lost(self, found: Judgement) -> float:
        return found.base.level(found.length) - (self.trial.opening - found.gain)

    def _decide(self, found: Judgement) -> None:
        levels = {e: r.level() for e, r in found.rungs.items() if not r.broke}
        found.exponent = min(levels, key=lambda e: (levels[e], -e), default=0.0)
        found.best = found.rungs.get(found.exponent)
        if levels:
            found.gain = max(self.trial.opening - levels[found.exponent], 0.0)
        self._measure(found)

    def _measure(self, found: Judgement) -> None:
        """Verdict and score: what the base loses, as a share of what the best run gains."""
        opening, base = self.trial.opening, found.base.level(found.length)
        found.course = "learns"
        if found.base.broke:
            found.sick, found.course = found.best is not None, "diverges"
            found.score = 3.0 - len(found.base.losses) / max(3 * found.length, 1)
            return
        share = CONFIRMED if found.confirmed else GAIN
        lost = self._lost(found)
        found.score = max(min(lost / (found.gain + self._floor), 2.0), -2.0) if math.isfinite(lost) else 0.0
        found.sick = found.best is not None and lost > share * found.gain + self._floor
        if found.sick:
            found.course = "diverges" if base >= LOST * opening else "degraded"

    def _confirm(self, found: Judgement) -> None:
        """Both go on: an early instability that heals is no fault, and a slow one shows."""
        assert found.best is not None
        length = round(self.steps * LONG)
        found.best = found.rungs[found.exponent] = self.trial.extend(found.best, length)
        found.gain = max(self.trial.opening - found.best.level(), 0.0) if not found.best.broke else 0.0
        found.confirmed = True
        while True:
            before = found.base.level()
            found.base, found.length = self.trial.extend(found.base, length), length
            self._measure(found)
            target = self.trial.opening - found.gain
            heals = before - found.base.level() > HEALS * (before - target)
            length += self.steps
            if not (found.sick and heals) or found.base.broke or length > PATIENCE * self.steps:
                break


@dataclass
class Blame:
    """The smallest set of groups found whose reduction repairs. ``repaired`` is the run with it reduced."""

    groups: tuple[int, ...]
    exponent: float
    repaired: Outcome
    alone: bool = False


class Attribution:
    """Which groups have to be reduced: suspects in order of −g·u of the first step, each tried alone, then together."""

    def __init__(self, trial: Trial, found: Judgement, steps: int, suspicion: Sequence[float]) -> None:
        self.trial, self.found, self.steps = trial, found, steps
        assert found.best is not None
        self.level = found.best.level(steps)
        self.gain = max(trial.opening - self.level, 0.0)
        self.order = sorted(range(trial.count), key=lambda g: (-suspicion[g], g))
        self._tried: dict[tuple[tuple[int, ...], float], Outcome] = {}

    def repairs(self, outcome: Outcome, share: float = NEAR) -> bool:
        """Whether the run comes near enough to the best one."""
        return outcome.level() <= self.level + share * self.gain + 1e-3 * abs(self.trial.opening)

    def smallest(self) -> Blame:
        """One group where one suffices, else the smallest set met."""
        everything = tuple(range(self.trial.count))
        assert self.found.best is not None
        if self.trial.count == 1:
            return Blame(everything, self.found.exponent, self.found.best, True)
        for group in self.order[:SUSPECTS]:
            if blame := self._alone(group):
                return blame
        return self._patiently(self.order[0]) or self._together(everything)

    def _patiently(self, group: int) -> Blame | None:
        """The first suspect alone in a longer run: what is left of the instability may heal."""
        length = round(LONG * self.steps)
        finite = [(o.level(), e, o) for (gs, e), o in self._tried.items() if gs == (group,) and not o.broke]
        if not finite:
            return None
        _, exponent, outcome = min(finite, key=lambda item: item[:2])
        assert self.found.best is not None
        if len(self.found.best.losses) < length:
            self.found.best = self.trial.extend(self.found.best, length)
        goal = self.found.best.level(length)
        longer = self.trial.extend(outcome, length)
        reached = longer.level() <= goal + PATIENT * max(self.trial.opening - goal, 0.0)
        return Blame((group,), exponent, longer, True) if reached else None

    def _alone(self, group: int) -> Blame | None:
        """The group at the ladder's best factor, then lower while that is not enough."""
        exponent = self.found.exponent
        before = math.inf
        while exponent >= DEEPEST:
            outcome = self.attempt((group,), exponent)
            if self.repairs(outcome):
                return Blame((group,), exponent, outcome, True)
            level = outcome.level()
            if level > before - 0.1 * self.gain and not outcome.broke:
                break
            before, exponent = level, exponent - 1
        return None

    def attempt(self, groups: Iterable[int], exponent: float) -> Outcome:
        """The run with these groups reduced and all others as configured."""
        key = (tuple(sorted(groups)), exponent)
        if key not in self._tried:
            factors = [10.0**exponent if g in key[0] else 1.0 for g in range(self.trial.count)]
            self._tried[key] = self.trial.run(factors, self.steps, keep=len(key[0]) == 1)
        return self._tried[key]

    def _together(self, everything: tuple[int, ...]) -> Blame:
        """The shortest prefix of the suspects that repairs (doubled, then halved), without those not needed."""
        assert self.found.best is not None
        exponent = self.found.exponent
        low, high, best = 1, len(self.order), Blame(everything, exponent, self.found.best)
        while high - low > 1:
            size = min(2 * low, high - 1) if high == len(self.order) else (low + high) // 2
            outcome = self.attempt(self.order[:size], exponent)
            if self.repairs(outcome):
                high, best = size, Blame(tuple(sorted(self.order[:size])), exponent, outcome)
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
                blame = Blame(rest, blame.exponent, outcome, len(rest) == 1)
        return blame


def largest(
    blame: Blame, attempt: Callable[[Iterable[int], float], Outcome], holds: Callable[[Outcome], bool]
) -> Blame:
    """The set at the largest factor that holds, in half decades."""
    while blame.exponent + HALF < -1e-9:
        outcome = attempt(blame.groups, blame.exponent + HALF)
        if not holds(outcome):
            break
        blame = Blame(blame.groups, blame.exponent + HALF, outcome, blame.alone)
    return blame
