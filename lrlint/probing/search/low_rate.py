"""Are the rates far too low for the run?

What n steps at κ = T·s/n times the rates take off the loss predicts where the run as configured ends (T: its steps, s:
the mean of the schedule over its peak): a slow start says nothing until it is held against that end. A plain range test,
which asks whether higher rates fall faster, separates too low from sound rates hardly better than chance (area under the
ROC curve 0.59 on the setups of `lrlint.probing.search.thresholds`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from lrlint.probing.search.thresholds import LOW, SINGLE
from lrlint.probing.search.trial import TrialRun

#: An opening loss below this is learnt already.
_LEARNT = 1e-6


@dataclass(frozen=True)
class Gain:
    """What a run took off the loss of batches that it was not trained on: mean, standard error, and the run."""

    mean: float
    error: float
    run: TrialRun

    @property
    def sure(self) -> float:
        """Less two standard errors."""
        return self.mean - LOW.errors * self.error


@dataclass(frozen=True)
class Length:
    """Of the training: optimizer steps, None where not known, and the mean of its schedule over the peak."""

    total: int | None
    mean: float = 1.0

    @property
    def steps(self) -> int:
        """As declared; a long guess for want of that."""
        return self.total or LOW.unknown_total


class Measurements(Protocol):
    """See `lrlint.probing.training.measure.Bench`."""

    @property
    def opening(self) -> float: ...

    def gain(self, factors: Sequence[float], steps: int, *, fresh: bool = False) -> Gain: ...

    def first_update(
        self, factors: Sequence[float]
    ) -> AbstractContextManager[Callable[[int | None, float], float]]: ...


@dataclass(frozen=True)
class Low:
    """``verdict``: ``too-low``, ``cannot-tell`` or ``fine``. Exponents are of ten; ``groups`` are positions.

    ``gain``: of the run at ``exponent``; ``reached``: what the configured rates can be expected to gain in
    ``stands_for`` steps; both as shares of the opening loss.
    """

    verdict: str
    groups: tuple[int, ...] = ()
    exponent: float = 0.0
    gain: float | None = None
    reached: float | None = None
    ratio: float | None = None
    steps: int = 0
    stands_for: int | None = None
    reason: str = ""
    run: TrialRun | None = None


class LowRateSearch:
    """``count``: groups that have a rate; ``steps``: of one run; ``pace``: the length of the last updates of the run as
    configured over that of all of them, within ``steps``.
    """

    def __init__(self, bench: Measurements, count: int, steps: int, length: Length, pace: float) -> None:
        self.bench, self.count, self.steps, self.length = bench, count, steps, length
        pace = min(max(pace, 1 / LOW.pace), LOW.pace) if math.isfinite(pace) else 1.0
        #: The run's length in updates of the size of the last one looked at.
        self.updates = max(length.steps * length.mean * pace, 1.0)

    def enough(self, gained: float, steps: float, opening: float) -> bool:
        """At the pace of the first steps the run gains all there is."""
        return max(gained, 0.0) * self.updates / steps >= abs(opening)

    def common(self) -> Low:
        """Are all rates together too low?"""
        opening = self.bench.opening
        if not math.isfinite(opening) or opening < 0:
            return Low("cannot-tell", reason="the loss is not one that is bounded by zero")
        if opening < _LEARNT:
            return Low("cannot-tell", reason="the loss is zero from the start")
        base = self._at(0.0, self.steps)
        if math.isinf(base.mean) or self.enough(base.mean, self.steps, opening):
            return Low("fine")
        reference = self._reference(self.steps)
        if reference is None:
            return Low("fine", reason="rates that stand for the whole run already break")
        best, tried = self._search(opening, reference)
        if best is None or self._ratio(best[1], reference, opening) < LOW.ratio:
            largest = max(tried, default=0.0)
            if max(largest, reference) < LOW.least_gain * opening:
                return Low("cannot-tell", reason=f"no rate learns anything in {self.steps} steps")
            return Low("fine")
        return self._confirmed(best[0], opening)

    def _at(self, exponent: float, steps: int, *, fresh: bool = False) -> Gain:
        return self.bench.gain([10.0**exponent] * self.count, steps, fresh=fresh)

    def _standing_for(self, steps: int) -> float:
        """The exponent at which so many steps stand for the whole run."""
        return round(math.log10(max(self.updates / steps, 1.0)), 2)

    def _reference(self, steps: int) -> float | None:
        """What the configured rates gain in the whole run; None where rates that stand for it already do harm."""
        exponent = self._standing_for(steps)
        short = max(self._at(0.0, self.steps).mean, 0.0)
        if exponent == 0:
            return short
        whole = self._at(exponent, steps).mean
        return None if whole < short - LOW.overshoot * self.bench.opening else max(short, whole)

    def _search(self, opening: float, reference: float) -> tuple[tuple[float, Gain] | None, list[float]]:
        """The exponent of a run that gains far more than the reference, from where the first update leads lowest."""
        standing = self._standing_for(self.steps)
        along = self._along()
        exponent = round(
            max(math.floor(2 * along) / 2 - 1, standing + LOW.gap) if along > standing else standing + 1, 2
        )
        best: tuple[float, Gain] | None = None
        tried: dict[float, float] = {}
        for _ in range(LOW.attempts):
            gain = self._at(exponent, self.steps)
            tried[exponent] = gain.mean
            clear = gain.sure > reference + LOW.least_gain * opening and gain.mean >= LOW.clear_gain * opening
            if clear and (best is None or gain.mean > best[1].mean):
                best = (exponent, gain)
            if best is not None and self._ratio(best[1], reference, opening) >= LOW.ratio:
                break
            worse = gain.mean < reference - LOW.least_gain * opening
            exponent = round(exponent + (-0.5 if worse else 0.5), 2)
            if exponent in tried or exponent < standing + LOW.gap - 0.01 or exponent > LOW.top:
                break
        return best, list(tried.values())

    def _along(self) -> float:
        """The exponent at which the loss is lowest along the first update of all groups; 0 where it only rises."""
        with self.bench.first_update([1.0] * self.count) as at:
            lowest, found, exponent = at(None, 0.0), 0.0, 0.0
            while exponent <= LOW.top:
                loss = at(None, 10.0**exponent)
                if loss < lowest:
                    lowest, found = loss, exponent
                if math.isinf(loss) or loss > 2 * abs(lowest) + abs(self.bench.opening):
                    break
                exponent += 0.5
        return found

    def _ratio(self, gain: Gain, reference: float, opening: float) -> float:
        return (gain.sure - LOW.least_gain * opening) / max(reference, LOW.reference_floor * opening)

    def _confirmed(self, exponent: float, opening: float) -> Low:
        """Runs twice as long, on other batches: what stood out may not last, or may be the noise of these."""
        steps = 2 * self.steps
        reference, standing = self._reference(steps), self._standing_for(steps)
        if reference is None:
            return Low("fine", reason="rates that stand for the whole run already break")
        best: tuple[float, float, Gain] | None = None
        for lower in (math.log10(steps / self.steps) / 2, math.log10(steps / self.steps) / 2 + 0.5):
            factor = round(exponent - lower, 2)
            if factor < standing + LOW.gap - 0.01:
                factor = round(standing + LOW.gap, 2)
            gain = self._at(factor, steps, fresh=True)
            ratio = self._ratio(gain, reference, opening)
            if best is None or ratio > best[0]:
                best = (ratio, factor, gain)
            if ratio >= LOW.ratio or factor <= standing + LOW.gap:
                break
        assert best is not None
        ratio, factor, gain = best
        holds = ratio >= LOW.ratio and gain.mean >= LOW.clear_gain * opening
        return Low(
            "too-low" if holds else "fine",
            tuple(range(self.count)),
            factor,
            gain.mean / opening,
            reference / opening,
            ratio,
            steps,
            self.length.steps,
            run=gain.run,
        )

    def single(self, groups: Sequence[int], harmless: float, others: float) -> Low:
        """Is the rate of one of these groups too low? The first whose first update stays harmless far enough is tried.

        All other groups run at the exponent ``others``, at which they are known to hold. The group itself runs at rates
        that stand for the whole training, and then as far above them as its first update is harmless (to the exponent
        ``harmless`` at most, where it would be as fast as the others): what it gains by that it lacks in training.
        """
        opening, steps = self.bench.opening, SINGLE.lengths * self.steps
        if not math.isfinite(opening) or opening < _LEARNT:
            return Low("cannot-tell", reason="the loss is not one that is bounded by zero")
        standing = self._standing_for(steps)
        for group in groups:
            top = self.harmless(group, LOW.top)
            raised = round(min(harmless, top - 0.5), 2)
            if top < math.log10(SINGLE.harmless) or raised < standing + LOW.gap:
                continue
            without, having = (
                self.bench.gain([10.0 ** (e if g == group else others) for g in range(self.count)], steps)
                for e in (max(standing, others), raised)
            )
            base = max(without.mean, 0.0)
            lead = having.mean - without.mean - LOW.errors * math.hypot(having.error, without.error)
            holds = math.isfinite(without.mean) and lead >= max(SINGLE.gains * base, LOW.least_gain * opening)
            return Low(
                "too-low" if holds else "fine",
                (group,),
                raised,
                having.mean / opening,
                base / opening,
                None,
                steps,
                self.length.steps,
                run=having.run,
            )
        return Low("fine")

    def harmless(self, group: int, top: float) -> float:
        """The largest exponent, in half decades, to which the loss along the group's first update does not rise."""
        with self.bench.first_update([1.0] * self.count) as at:
            return reach(at, group, self.bench.opening, top)


def reach(at: Callable[[int | None, float], float], group: int, opening: float, top: float) -> float:
    """The largest exponent, in half decades up to ``top``, at which a multiple of the group's first update does no harm;
    below 0 where the update as configured does.
    """
    limit = at(group, 0.0) + LOW.least_gain * abs(opening)
    found, exponent = -0.5, 0.0
    while exponent <= top + 1e-9 and at(group, 10.0**exponent) <= limit:
        found, exponent = exponent, exponent + 0.5
    return found
