"""What runs at reduced rates say: does the setup hold, how far is it from not holding, and which groups are to blame.

A run as configured is compared with runs from the same state, on the same batches and with the same random numbers, in
which only rates differ. On 373 labelled setups such interventions beat every passive signal (loss, norms, sharpness):
0.96 against 0.94 and less of the area under the ROC curve. Nothing here imports torch: `Trial` does the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: Sick: a lower rate is better by this share of what it gains, and by this share of the initial loss.
GAIN, FLOOR = 0.3, 0.02
#: The same once both runs went on to `LONG` times the length: early instabilities that heal are no fault.
CONFIRMED = 0.5
LONG = 10 / 3
#: A reduction repairs when it comes this near to the best run, as a share of what that one gains.
NEAR = 0.3
#: A run that took away this share of the initial loss learns well; if slower is not better it is not looked at again.
LEARNS = 0.3
#: Exponents of ten of the ladder, in the order they are tried.
LADDER = (-1.0, -2.0, -0.5)
LOWEST = -3.0
HALF = 0.5
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
        """Mean of the closing losses of the first ``length`` steps; infinite for a run that broke before."""
        losses = self.losses if length is None else self.losses[:length]
        if self.broke and (length is None or len(self.losses) <= length):
            return math.inf
        tail = losses[-closing(len(losses)) :]
        return sum(tail) / len(tail) if tail else math.inf


def exploded(losses: Sequence[float]) -> bool:
    """Whether a run is beyond repair: far above its start, for long enough that a spike would have healed.

    Healthy runs were seen to spike to ten times their initial loss and come back.
    """
    if len(losses) < 2:
        return False
    start = max(abs(losses[0]), 1e-12)
    return losses[-1] > BEYOND * start or (len(losses) > SPIKE and min(losses[-SPIKE:]) > 10 * start)


def closing(steps: int) -> int:
    """How many steps at the end of a run its level is taken over."""
    return max(1, min(8, steps // 6))


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
    """The run as configured, and those with all rates reduced."""

    def __init__(self, trial: Trial, steps: int) -> None:
        self.trial, self.steps = trial, steps

    def judge(self) -> Judgement:
        trial = self.trial
        base = trial.run([1.0] * trial.count, self.steps, keep=True)
        found = Judgement(base, length=self.steps)
        for exponent in LADDER:
            if exponent == LADDER[-1] and self._clear(found):
                break
            self._rung(found, exponent)
            if self._well(found):
                break
        while min(found.rungs) > LOWEST and all(r.broke for r in found.rungs.values()):
            self._rung(found, min(found.rungs) - 1)
        self._decide(found, GAIN)
        if found.sick and not base.broke and found.best is not None:
            self._confirm(found)
        return found

    def _rung(self, found: Judgement, exponent: float) -> None:
        found.rungs[exponent] = self.trial.run([10.0**exponent] * self.trial.count, self.steps, keep=True)

    def _well(self, found: Judgement) -> bool:
        """The base learns, and slower is clearly no better."""
        level = found.base.level()
        if level > (1 - LEARNS) * self.trial.opening:
            return False
        return all(rung.level() > level for rung in found.rungs.values())

    def _clear(self, found: Judgement) -> bool:
        """The base broke and some rung learns: one in between would change nothing but the reference."""
        return found.base.broke and any(r.level() < (1 - LEARNS) * self.trial.opening for r in found.rungs.values())

    def _decide(self, found: Judgement, share: float) -> None:
        opening = self.trial.opening
        finite = {e: r.level(found.length) for e, r in found.rungs.items() if not r.broke}
        found.exponent = min(finite, key=lambda e: (finite[e], -e), default=0.0)
        found.best = found.rungs.get(found.exponent)
        level = finite.get(found.exponent, math.inf)
        found.gain = max(opening - level, 0.0) if math.isfinite(level) else 0.0
        self._measure(found, level, share)

    def _measure(self, found: Judgement, level: float, share: float) -> None:
        """Verdict and score: what the base loses, as a share of what the best run gains."""
        opening, base = self.trial.opening, found.base.level(found.length)
        scale = abs(opening) or 1.0
        if found.base.broke:
            found.sick, found.course = found.best is not None, "diverges"
            early = 1 - len(found.base.losses) / max(found.length, 1)
            found.score = 2.0 + max(early, 0.0) if found.best is not None else 1.0
            return
        lost = base - level
        found.score = lost / (found.gain + FLOOR * scale) if math.isfinite(lost) else 0.0
        found.score = max(min(found.score, 2.0), -2.0)
        found.sick = lost > share * found.gain + FLOOR * scale
        found.course = "learns"
        if found.sick:
            found.course = "diverges" if base >= 0.95 * opening else "degraded"

    def _confirm(self, found: Judgement) -> None:
        """Both go on: an early instability that heals is no fault."""
        assert found.best is not None
        length = round(self.steps * LONG)
        found.base = self.trial.extend(found.base, length)
        longer = self.trial.extend(found.best, length)
        found.rungs[found.exponent] = found.best = longer
        found.length, found.confirmed = length, True
        level = longer.level(length)
        found.gain = max(self.trial.opening - level, 0.0)
        self._measure(found, level, CONFIRMED)


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
        exponents = self._exponents()
        everything = tuple(range(self.trial.count))
        assert self.found.best is not None
        if self.trial.count == 1:
            return Blame(everything, self.found.exponent, self.found.best, True)
        for group in self.order[:2]:
            if blame := self._first((group,), exponents):
                return blame
        return self._together(exponents, everything)

    def _exponents(self) -> tuple[float, ...]:
        best = self.found.exponent
        return (best, best - 1.0) if best > -2 else (best, best + 1.0)

    def _first(self, groups: tuple[int, ...], exponents: Iterable[float]) -> Blame | None:
        for exponent in exponents:
            outcome = self.attempt(groups, exponent)
            if self.repairs(outcome):
                return Blame(groups, exponent, outcome, len(groups) == 1)
        return None

    def attempt(self, groups: Iterable[int], exponent: float) -> Outcome:
        """The run with these groups reduced and all others as configured."""
        key = (tuple(sorted(groups)), exponent)
        if key not in self._tried:
            factors = [10.0**exponent if g in key[0] else 1.0 for g in range(self.trial.count)]
            self._tried[key] = self.trial.run(factors, self.steps)
        return self._tried[key]

    def _together(self, exponents: tuple[float, ...], everything: tuple[int, ...]) -> Blame:
        """The shortest prefix of the suspects that repairs (by halving), then without those that are not needed."""
        assert self.found.best is not None
        low, high, best = 1, len(self.order), Blame(everything, self.found.exponent, self.found.best)
        probe = 2
        while low < high:
            size = min(probe, high - 1) if probe else (low + high) // 2
            if size <= low:
                break
            blame = self._first(tuple(sorted(self.order[:size])), exponents[:1])
            if blame:
                high, best, probe = size, blame, 0
            else:
                low, probe = size, 2 * probe if probe else 0
        return self._pruned(best)

    def _pruned(self, blame: Blame) -> Blame:
        """Members whose rate can stay are taken out, the least suspicious first."""
        for group in [g for g in reversed(self.order) if g in blame.groups]:
            rest = tuple(g for g in blame.groups if g != group)
            if not rest or len(blame.groups) > 6:
                break
            if smaller := self._first(rest, (blame.exponent,)):
                blame = Blame(smaller.groups, smaller.exponent, smaller.repaired, len(rest) == 1)
        return blame


def largest(blame: Blame, attempt: Callable[[Iterable[int], float], Outcome], holds: Callable[[Outcome], bool]) -> Blame:
    """The set at the largest factor that holds, in half decades."""
    while blame.exponent + HALF < -1e-9:
        outcome = attempt(blame.groups, blame.exponent + HALF)
        if not holds(outcome):
            break
        blame = Blame(blame.groups, blame.exponent + HALF, outcome, blame.alone)
    return blame
