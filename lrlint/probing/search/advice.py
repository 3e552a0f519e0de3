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
from lrlint.probing.search.attribution import NEAR, GroupReduction
from lrlint.probing.search.rate_ladder import GAIN, HALF, PATIENCE, QUICK, Diagnosis, shortfall_of
from lrlint.probing.search.trial import FLOOR, RunFactory, TrialRun

#: A largest norm of so many times the median is an outlier, and so large ones are rare below this share of the steps.
TAIL, RARE = 10.0, 0.1
#: It stands out from so many on either side as well.
BESIDE = 3
#: The tail is fat, and clipping at the median better, where the 90th percentile is so many times the median.
FAT = 3.0
#: A recommended change has to keep this share of what the best run gained, on batches the search has not seen.
KEEPS = 0.25
#: Changes are run for so many times the steps in which the fault showed.
TWICE = 2
#: The largest factor that held lasts if it is within this share of the best run's gain then. Of 148 labelled setups in
#: which some groups were reduced 73 did, and 0.97 of those were healthy after 300 steps at a quarter decade less; of the
#: others 0.81 at three quarters, and 0.65 at a quarter.
LASTS = 0.05
SMALL, MIDDLE, LARGE = 0.25, 0.5, 0.75
#: Where all rates a quarter decade lower are too slow, those of the best run itself: of 17 such labelled setups 16 were
#: healthy after 300 steps with these, 11 with a quarter less.
NONE = 0.0
#: Lower still where the schedule warms up and then keeps its rates: half of a run's steps are on the ramp, and few of the
#: training's. Of 114 such labelled setups 106 were healthy after 300 steps without it, of 112 109 with it.
KEPT = 0.25
#: Where all rates a quarter decade lower are better than the best run by this share of its gain, half a decade may be
#: better still: of 25 labelled setups 0.80 were healthy at a quarter, 0.92 at a half; of 67 others 0.94 and 0.90.
AHEAD = 0.05
#: Where a change of some groups is better than the best run by this share of its gain, that run is no yardstick. Half a
#: decade below it lower rates for all were better still in 6 of 29 such labelled setups, and healthy after 300 steps in
#: all of the 6, where the change of some groups was in 3.
FAR = 0.2
#: A change of some groups that does not last, and with which their first step promises (−g·u) less than this share of what
#: the others' does, hardly lets them learn, and hides that all rates are too high: of 34 labelled setups with such a change
#: 21 were healthy after 300 steps, with lower rates for all 33; of 38 whose change does not last but promises more, 36.
STOPPED = 0.2
#: Lower rates are looked at in so many half decades, while each is better than the last by this share of the best gain;
#: one where the fault showed so late that each of these runs is long.
LOWER, CLOSE = 2, 0.05
#: What is verified stands out of the noise of the closing batches by so many standard errors.
NOISE = 2.0


def tail_of(norms: Sequence[float]) -> GradientTail | None:
    """The tail of gradient norms of quiet steps; None where too few are finite and above 0."""
    found = [value for value in norms if math.isfinite(value) and value > 0]
    if len(found) < 10:
        return None
    values = sorted(found)
    middle, p90 = median(values), values[math.ceil(0.9 * len(values)) - 1]
    outliers = sum(value >= TAIL * max(middle, _around(found, k)) for k, value in enumerate(found))
    heavy = 0 < outliers <= max(RARE * len(values), 1)
    return GradientTail(len(values), middle, p90, values[-1], heavy, outliers)


def _around(norms: Sequence[float], k: int) -> float:
    """The median of the norms next to one: large ones in a row, as at the start of many a training, are no outliers."""
    return median([*norms[max(k - BESIDE, 0) : k], *norms[k + 1 : k + 1 + BESIDE]])


def clip_value(tail: GradientTail) -> float:
    """Where to clip: the 90th percentile of the norms (as the Tuning Playbook does), the median of a fat tail."""
    value = tail.median if tail.p90 > FAT * tail.median else tail.p90
    return float(f"{value:.2g}")


@dataclass(frozen=True)
class Change:
    """A change and the runs that tried it. ``groups`` are positions among the trial's groups.

    ``largest``: the largest factor that held; ``factor`` lies ``margin`` decades below. ``factors``: one for each of the
    groups, where they are not the same. ``reason``: why it is recommended, where that needs a word.
    """

    kind: str
    groups: tuple[int, ...]
    factor: float | None = None
    value: float | None = None
    largest: float | None = None
    margin: float = 0.0
    verified: bool = False
    evidence: tuple[TrialRun, ...] = ()
    factors: tuple[float, ...] = ()
    reason: str = ""
    lasts: bool = True  # the largest factor that held, over more steps as well

    def all_factors(self, count: int) -> list[float]:
        """Of all ``count`` groups, 1 for those that stay."""
        own = self.factors or (self.factor or 1.0,) * len(self.groups)
        of = dict(zip(self.groups, own, strict=True))
        return [of.get(g, 1.0) for g in range(count)]


class Adviser:
    """Turns what the search found into changes that hold."""

    def __init__(
        self, trial: RunFactory, found: Diagnosis, steps: int, promises: Sequence[float], kept: bool = False
    ) -> None:
        """``promises``: −g·u of each group's first step as configured, 0 or more. ``kept``: the schedule warms up, and then
        keeps its rates.
        """
        self.trial, self.found, self.steps, self.promises = trial, found, steps, promises
        self.more = KEPT if kept else 0.0
        self.ones = (1.0,) * trial.count
        self.long = min(TWICE * max(found.shown_after, steps), PATIENCE * steps)

    def quiet_tail(self) -> GradientTail | None:
        """The tail on a run at lower rates, not so slow that it stands still.

        Where that has outliers, of one more at a tenth of the rates, in which none of them moves the model far: what
        comes after one would count as well.
        """
        rungs = {e: r for e, r in self.found.reduced_runs.items() if not r.failed and r.norms}
        usual = self.found.exponent if self.found.too_high else -1.0
        lowest = self.found.reduced_runs[min(self.found.reduced_runs)]
        quiet = rungs.get(usual) or (rungs[max(rungs)] if rungs else lowest)
        norms = [norm for norm in quiet.norms if math.isfinite(norm)]
        if norms and max(norms) >= TAIL * median(norms):
            usual_norm = min(norms) if quiet.failed else median(norms)
            quiet = self.trial.run([0.1] * self.trial.count, self.long, clip=TAIL * usual_norm)
        return None if quiet.failed else tail_of(quiet.norms)

    def clip(self, tail: GradientTail) -> tuple[Change, bool]:
        """Clipping with all rates as configured, and whether it is clearly better than the run without.

        Against outliers it is verified where it is no worse: the next one may do what these did not.
        """
        value = clip_value(tail)
        length = max(self.found.length, self.long) if tail.heavy else round(QUICK * self.steps)
        base = self.found.baseline if self.found.baseline.failed else self.trial.extend(self.found.baseline, length)
        outcome = self.trial.run(self.ones, length, clip=value)
        opening, level = self.trial.start(length), outcome.level()
        gain, floor = max(opening - level, 0.0), FLOOR * abs(opening)
        lead = base.level(length) - level
        better = lead > GAIN * gain + floor
        change = Change("clip", tuple(range(self.trial.count)), value=value, evidence=(outcome,))
        if not self._holds(outcome, GAIN) or not (better or (tail.heavy and lead >= 0)):
            return change, False
        again = self.trial.run(self.ones, self.long, clip=value, seed=1, fresh=True)
        holds = self._holds(again, KEEPS)
        return replace(change, verified=holds, evidence=(again,)), better and holds

    def rate(self, blame: GroupReduction) -> Change:
        """A quarter decade below the largest factor that held, three quarters if that one does not last. Of all rates the
        better one of two, should the first not do.

        What was found is run again over fresh batches, with another seed and for as long.
        """
        lasts = self._behind(self.trial.run(blame.factors(self.trial.count), self.long)) <= LASTS
        first = replace(self._verified(blame, SMALL if lasts else LARGE), lasts=lasts)
        if len(blame.groups) < self.trial.count:
            return self._best(blame, first) if first.verified else first
        if first.verified and not (lasts and self._behind(first.evidence[0]) < -AHEAD):
            return first
        second = self._verified(blame, (MIDDLE if first.verified else NONE) if lasts else SMALL)
        best = min((first, second), key=lambda change: (not change.verified, self._behind(change.evidence[0])))
        return self._best(blame, best) if best.verified else best

    def _best(self, blame: GroupReduction, change: Change) -> Change:
        """Half a decade lower while that is better: the largest rate that holds is seldom the one that learns most."""
        for _ in range(LOWER if self.long <= TWICE * self.steps else 1):
            lower = self._verified(blame, change.margin + HALF, capped=False)
            if not lower.verified or self._behind(lower.evidence[0]) > self._behind(change.evidence[0]) - CLOSE:
                break
            change = replace(lower, lasts=change.lasts)
        return change

    def each_its_own(self, change: Change, largest: dict[int, float]) -> Change | None:
        """The change with every group raised to where runs of it alone still held (exponents), less half a decade, and not
        above what is configured; None where that is no rise, or together it does not hold as well.
        """
        before = change.all_factors(self.trial.count)
        raised = {g: min(max(10.0 ** (largest.get(g, -math.inf) - HALF), before[g]), 1.0) for g in change.groups}
        raised = {g: 1.0 if factor > 10**-SMALL else factor for g, factor in raised.items()}
        if all(raised[g] <= 1.01 * before[g] for g in change.groups):
            return None
        factors = [raised.get(g, 1.0) for g in range(self.trial.count)]
        kept = tuple(g for g in change.groups if factors[g] < 1.0)
        if not kept:
            return None
        run = self.trial.run(factors, self.long, seed=1, fresh=True)
        if not self._holds(run, NEAR) or self._behind(run) > self._behind(change.evidence[0]) + CLOSE:
            return None
        own = tuple(factors[g] for g in kept)
        common = own[0] if len({f"{factor:.3g}" for factor in own}) == 1 else None
        return Change("lr", kept, common, verified=True, evidence=(run,), factors=own)

    def why_all(self, some: Change, every: Change) -> str:
        """Why other groups are lowered as well."""
        steps = len(some.evidence[0].losses)
        if not some.verified:
            return f"lowering only those that are to blame did not hold for {steps} steps"
        one, other = some.evidence[0].level(), every.evidence[0].level()
        if one - other <= FLOOR * abs(self.trial.start(steps)):
            return "with only those lowered that are to blame, they hardly train any more at what lasts"
        ends = f"the loss ends at {one:.3g} after {steps} steps, with all at {other:.3g}"
        return f"with only those lowered that are to blame {ends}"

    def convinces(self, change: Change) -> bool:
        """Whether the change, of some groups, is as good as lower rates for all.

        Of 148 labelled setups 118 were, and 0.94 of these were healthy after 300 steps; of the others 0.70, and 0.93 of
        them if all rates were lower.
        """
        if not change.verified or change.lasts:
            return change.verified
        return self._behind(change.evidence[0]) <= LASTS and not self._stops(change)

    def _stops(self, change: Change) -> bool:
        """Whether the groups reduced hardly take part any more."""
        assert change.factor is not None
        own = sum(self.promises[g] for g in change.groups)
        return own * change.factor < STOPPED * (sum(self.promises) - own)

    def instead(self, change: Change, everything: GroupReduction) -> Change | None:
        """Lower rates for all groups, where the change of some does not convince, or these are clearly better."""
        if not self.convinces(change):
            return self.rate(everything)
        lead = -self._behind(change.evidence[0])
        if lead <= FAR:
            return None
        other = self._verified(everything, MIDDLE)
        return other if other.verified and -self._behind(other.evidence[0]) > lead + AHEAD else None

    def _behind(self, run: TrialRun) -> float:
        return shortfall_of(self.trial, self.found, run)

    def _verified(self, blame: GroupReduction, margin: float, capped: bool = True) -> Change:
        margin = min(margin + self.more, LARGE) if capped else margin
        run = self.trial.run(blame.factors(self.trial.count, margin), self.long, seed=1, fresh=True)
        return Change(
            "lr",
            blame.groups,
            factor=10.0 ** (blame.exponent - margin),
            largest=10.0**blame.exponent,
            margin=margin,
            verified=self._holds(run, NEAR),
            evidence=(run,),
        )

    def _holds(self, run: TrialRun, share: float) -> bool:
        """It takes something off the loss, and lacks no more than this share of what the best run takes off. Where even
        that takes off nothing, what does no harm holds.
        """
        if run.failed:
            return False
        opening = self.trial.start(len(run.losses))
        noise = NOISE * self.trial.noise(run)
        if self.found.too_high and self.found.no_progress:
            harm, floor = run.level() - opening, FLOOR * abs(opening)
            return harm <= floor and harm + noise <= 2 * floor
        if self.found.best_run is not None and self._behind(run) > share:
            return False
        return opening - run.level() > max(FLOOR * abs(opening), noise)
