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
from lrlint.probing.search.attribution import GroupReduction
from lrlint.probing.search.rate_ladder import Diagnosis, shortfall_of
from lrlint.probing.search.thresholds import THRESHOLDS
from lrlint.probing.search.trial import RunFactory, TrialRun


def tail_of(norms: Sequence[float]) -> GradientTail | None:
    """The tail of gradient norms of quiet steps; None where too few are finite and above 0."""
    finite = [value for value in norms if math.isfinite(value) and value > 0]
    if len(finite) < 10:
        return None
    values = sorted(finite)
    middle, p90 = median(values), values[math.ceil(0.9 * len(values)) - 1]
    outliers = sum(
        value >= THRESHOLDS.outlier_ratio * max(middle, _around(finite, k)) for k, value in enumerate(finite)
    )
    heavy = 0 < outliers <= max(THRESHOLDS.max_outlier_share * len(values), 1)
    return GradientTail(len(values), middle, p90, values[-1], heavy, outliers)


def _around(norms: Sequence[float], k: int) -> float:
    """The median of the norms next to one: large ones in a row, as at the start of many a training, are no outliers."""
    return median(
        [*norms[max(k - THRESHOLDS.outlier_neighbours, 0) : k], *norms[k + 1 : k + 1 + THRESHOLDS.outlier_neighbours]]
    )


def clip_value(tail: GradientTail) -> float:
    """Where to clip: the 90th percentile of the norms (as the Tuning Playbook does), the median of a fat tail."""
    value = tail.median if tail.p90 > THRESHOLDS.fat_tail * tail.median else tail.p90
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
    """From a diagnosis to recommended changes (lower rates, or clipping), each verified by runs of its own."""

    def __init__(
        self, trial: RunFactory, diagnosis: Diagnosis, steps: int, promises: Sequence[float], kept: bool = False
    ) -> None:
        """``promises``: −g·u of each group's first step as configured, 0 or more. ``kept``: the schedule warms up, and then
        keeps its rates.
        """
        self.trial, self.diagnosis, self.steps, self.promises = trial, diagnosis, steps, promises
        self.more = THRESHOLDS.ramp_margin if kept else 0.0
        self.ones = (1.0,) * trial.count
        self.long = min(THRESHOLDS.verification_length * max(diagnosis.shown_after, steps), THRESHOLDS.longest * steps)

    def quiet_tail(self) -> GradientTail | None:
        """The tail on a run at lower rates, not so slow that it stands still.

        Where that has outliers, of one more at a tenth of the rates, in which none of them moves the model far: what
        comes after one would count as well.
        """
        rungs = {e: r for e, r in self.diagnosis.reduced_runs.items() if not r.failed and r.norms}
        usual = self.diagnosis.exponent if self.diagnosis.too_high else -1.0
        lowest = self.diagnosis.reduced_runs[min(self.diagnosis.reduced_runs)]
        quiet = rungs.get(usual) or (rungs[max(rungs)] if rungs else lowest)
        norms = [norm for norm in quiet.norms if math.isfinite(norm)]
        if norms and max(norms) >= THRESHOLDS.outlier_ratio * median(norms):
            usual_norm = min(norms) if quiet.failed else median(norms)
            quiet = self.trial.run([0.1] * self.trial.count, self.long, clip=THRESHOLDS.outlier_ratio * usual_norm)
        return None if quiet.failed else tail_of(quiet.norms)

    def clip(self, tail: GradientTail) -> tuple[Change, bool]:
        """Clipping with all rates as configured, and whether it is clearly better than the run without.

        Against outliers it is verified where it is no worse: the next one may do what these did not.
        """
        value = clip_value(tail)
        length = max(self.diagnosis.length, self.long) if tail.heavy else round(THRESHOLDS.early_share * self.steps)
        base = (
            self.diagnosis.baseline
            if self.diagnosis.baseline.failed
            else self.trial.extend(self.diagnosis.baseline, length)
        )
        outcome = self.trial.run(self.ones, length, clip=value)
        opening, level = self.trial.start(length), outcome.level()
        gain, floor = max(opening - level, 0.0), THRESHOLDS.least_difference * abs(opening)
        lead = base.level(length) - level
        better = lead > THRESHOLDS.shortfall * gain + floor
        change = Change("clip", tuple(range(self.trial.count)), value=value, evidence=(outcome,))
        if not self._holds(outcome, THRESHOLDS.shortfall) or not (better or (tail.heavy and lead >= 0)):
            return change, False
        again = self.trial.run(self.ones, self.long, clip=value, seed=1, fresh=True)
        holds = self._holds(again, THRESHOLDS.clip_shortfall)
        return replace(change, verified=holds, evidence=(again,)), better and holds

    def rate(self, reduction: GroupReduction) -> Change:
        """A quarter decade below the largest factor that held, three quarters if that one does not last. Of all rates the
        better one of two, should the first not do.

        What was found is run again over fresh batches, with another seed and for as long.
        """
        lasts = (
            self._behind(self.trial.run(reduction.factors(self.trial.count), self.long)) <= THRESHOLDS.lasting_shortfall
        )
        first = replace(
            self._verified(reduction, THRESHOLDS.small_margin if lasts else THRESHOLDS.large_margin), lasts=lasts
        )
        if len(reduction.groups) < self.trial.count:
            return self._best(reduction, first) if first.verified else first
        if first.verified and not (lasts and self._behind(first.evidence[0]) < -THRESHOLDS.ahead_of_best):
            return first
        second = self._verified(
            reduction,
            (THRESHOLDS.middle_margin if first.verified else THRESHOLDS.no_margin)
            if lasts
            else THRESHOLDS.small_margin,
        )
        best = min((first, second), key=lambda change: (not change.verified, self._behind(change.evidence[0])))
        return self._best(reduction, best) if best.verified else best

    def _best(self, reduction: GroupReduction, change: Change) -> Change:
        """Half a decade lower while that is better: the largest rate that holds is seldom the one that learns most."""
        for _ in range(THRESHOLDS.lower_rates_tried if self.long <= THRESHOLDS.verification_length * self.steps else 1):
            lower = self._verified(reduction, change.margin + THRESHOLDS.exponent_step, capped=False)
            if (
                not lower.verified
                or self._behind(lower.evidence[0]) > self._behind(change.evidence[0]) - THRESHOLDS.closely
            ):
                break
            change = replace(lower, lasts=change.lasts)
        return change

    def each_its_own(self, change: Change, largest: dict[int, float]) -> Change | None:
        """The change with every group raised to where runs of it alone still held (exponents), less half a decade, and not
        above what is configured; None where that is no rise, or together it does not hold as well.
        """
        before = change.all_factors(self.trial.count)
        raised = {
            g: min(max(10.0 ** (largest.get(g, -math.inf) - THRESHOLDS.exponent_step), before[g]), 1.0)
            for g in change.groups
        }
        raised = {g: 1.0 if factor > 10**-THRESHOLDS.small_margin else factor for g, factor in raised.items()}
        if all(raised[g] <= 1.01 * before[g] for g in change.groups):
            return None
        factors = [raised.get(g, 1.0) for g in range(self.trial.count)]
        kept = tuple(g for g in change.groups if factors[g] < 1.0)
        if not kept:
            return None
        run = self.trial.run(factors, self.long, seed=1, fresh=True)
        if (
            not self._holds(run, THRESHOLDS.repair_shortfall)
            or self._behind(run) > self._behind(change.evidence[0]) + THRESHOLDS.closely
        ):
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
        if one - other <= THRESHOLDS.least_difference * abs(self.trial.start(steps)):
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
        return self._behind(change.evidence[0]) <= THRESHOLDS.lasting_shortfall and not self._stops(change)

    def _stops(self, change: Change) -> bool:
        """Whether the groups reduced hardly take part any more."""
        assert change.factor is not None
        own = sum(self.promises[g] for g in change.groups)
        return own * change.factor < THRESHOLDS.idle_promise * (sum(self.promises) - own)

    def instead(self, change: Change, everything: GroupReduction) -> Change | None:
        """Lower rates for all groups, where the change of some does not convince, or these are clearly better."""
        if not self.convinces(change):
            return self.rate(everything)
        lead = -self._behind(change.evidence[0])
        if lead <= THRESHOLDS.far_ahead_of_best:
            return None
        other = self._verified(everything, THRESHOLDS.middle_margin)
        return other if other.verified and -self._behind(other.evidence[0]) > lead + THRESHOLDS.ahead_of_best else None

    def _behind(self, run: TrialRun) -> float:
        return shortfall_of(self.trial, self.diagnosis, run)

    def _verified(self, reduction: GroupReduction, margin: float, capped: bool = True) -> Change:
        margin = min(margin + self.more, THRESHOLDS.large_margin) if capped else margin
        run = self.trial.run(reduction.factors(self.trial.count, margin), self.long, seed=1, fresh=True)
        return Change(
            "lr",
            reduction.groups,
            factor=10.0 ** (reduction.exponent - margin),
            largest=10.0**reduction.exponent,
            margin=margin,
            verified=self._holds(run, THRESHOLDS.repair_shortfall),
            evidence=(run,),
        )

    def _holds(self, run: TrialRun, share: float) -> bool:
        """It takes something off the loss, and lacks no more than this share of what the best run takes off. Where even
        that takes off nothing, what does no harm holds.
        """
        if run.failed:
            return False
        opening = self.trial.start(len(run.losses))
        noise = THRESHOLDS.noise_errors * self.trial.noise(run)
        if self.diagnosis.too_high and self.diagnosis.no_progress:
            harm, floor = run.level() - opening, THRESHOLDS.least_difference * abs(opening)
            return harm <= floor and harm + noise <= 2 * floor
        if self.diagnosis.best_run is not None and self._behind(run) > share:
            return False
        return opening - run.level() > max(THRESHOLDS.least_difference * abs(opening), noise)
