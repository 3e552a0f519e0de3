"""Line search over a common factor on all rates: do they hold, and how far are they from not holding?

A run as configured is compared with runs from the same state, on the same batches and with the same random numbers, in
which only rates differ. On 373 labelled setups such interventions beat every passive signal (loss, norms, sharpness):
0.96 against 0.94 and less of the area under the ROC curve. Limits are from 1132 labelled setups of `benchmarks.probe`,
none of them among those that it reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lrlint.probing.search.thresholds import THRESHOLDS
from lrlint.probing.search.trial import TINY, RunFactory, TrialRun, hopeless, relative_shortfall


@dataclass
class Diagnosis:
    """What the runs at common factors say.

    ``baseline``: the run as configured; ``reduced_runs``: those with all rates times 10 ** key. ``length``: steps of the
    runs that were judged; ``opening``: the loss without any step, over the batches that these runs close with.
    ``best_run``: the one with the lowest closing loss, at 10 ** ``exponent``; ``progress``: what it took off the opening.
    ``too_high``: the verdict; ``score``: the relative shortfall of the baseline, bounded (above 2: it broke).
    ``steps_to_tell``: after so many steps a run tells good from bad; ``shown_after``: the fault showed first after so
    many. ``healed``: the baseline passes when the rates fall.
    """

    baseline: TrialRun
    length: int
    opening: float
    reduced_runs: dict[float, TrialRun] = field(default_factory=dict)
    best_run: TrialRun | None = None
    exponent: float = 0.0
    progress: float = 0.0
    score: float = 0.0
    too_high: bool = False
    course: str = "learns"
    confirmed: bool = False
    steps_to_tell: int = 0
    shown_after: int = 0
    healed: bool = False

    @property
    def floor(self) -> float:
        """A difference of the loss below this is none."""
        return max(THRESHOLDS.least_difference * abs(self.opening), TINY)

    @property
    def level(self) -> float:
        """Of the run as configured."""
        return self.baseline.level(self.length)

    @property
    def shortfall(self) -> float:
        """How much less than the best run the run as configured takes off the loss."""
        return self.level - (self.opening - self.progress)

    @property
    def relative_shortfall(self) -> float:
        """The same as a share of that gain."""
        return relative_shortfall(self.level, self.opening - self.progress, self.opening)

    @property
    def no_progress(self) -> bool:
        """Whether no run takes anything off the loss."""
        runs = [run for run in (self.baseline, *self.reduced_runs.values()) if len(run.losses) >= self.length]
        return self.opening - min(run.level(self.length) for run in runs) <= self.floor

    @property
    def rose_far(self) -> bool:
        """Whether the run as configured went far above its start."""
        return max(self.baseline.losses) > THRESHOLDS.suspect_rise * max(abs(self.opening), TINY)

    @property
    def spiked(self) -> bool:
        """Whether the run as configured had nearly learnt it all, and then lost much of that."""
        lowest, limit = math.inf, THRESHOLDS.spike_floor * abs(self.opening)
        for three in zip(self.baseline.losses, self.baseline.losses[1:], self.baseline.losses[2:], strict=False):
            loss = sorted(three)[1]  # single batches differ that much where the loss is small
            if lowest < limit and loss > max(limit, THRESHOLDS.spike_height * abs(lowest)):
                return True
            lowest = min(lowest, loss)
        return False

    def near_edge(self, up: TrialRun) -> bool:
        """Whether a run at somewhat higher rates ends above its start, and some more."""
        length = len(up.losses)
        best = min(run.level(length) for run in (self.baseline, *self.reduced_runs.values()))
        return relative_shortfall(up.level(), best, self.opening) > THRESHOLDS.near_edge_shortfall

    def loss_after_drop(self, share: float) -> float:
        """opening − share · |opening|: the loss once it has lost this share of its initial size (losses may be negative)."""
        return self.opening - share * abs(self.opening)


def shortfall_of(trial: RunFactory, diagnosis: Diagnosis, run: TrialRun) -> float:
    """`relative_shortfall` of a run against the best one, taken to as many steps; infinite for a run that failed."""
    if run.failed:
        return math.inf
    assert diagnosis.best_run is not None
    length = len(run.losses)
    opening = trial.start(length)
    if not diagnosis.best_run.failed:
        diagnosis.best_run = trial.extend(diagnosis.best_run, length)
    return relative_shortfall(run.level(), min(diagnosis.best_run.level(length), opening), opening)


class RateSearch:
    """Line search over a common factor 10**k on all rates (k = 0, −½, −1, …), as if the final loss had one minimum over k."""

    def __init__(self, trial: RunFactory, steps: int, decays: bool = False) -> None:
        """``decays``: the schedule lets the rates fall below half their peak."""
        self.trial, self.steps, self.decays = trial, steps, decays

    def judge(self) -> Diagnosis:
        """The verdict at common factors, confirmed by longer runs where it is not clear."""
        trial = self.trial
        base = trial.run([1.0] * trial.count, self.steps, keep=True)
        diagnosis = Diagnosis(base, self.steps, trial.start(self.steps), steps_to_tell=self.steps)
        level, slower = base.level(), self._rung(diagnosis, -1.0).level()
        if slower < level or math.isinf(slower) or level > diagnosis.loss_after_drop(1 - THRESHOLDS.no_progress):
            self._below(diagnosis)
            self._linger(diagnosis)
        elif not self._clearly(diagnosis, slower):
            self._rung(diagnosis, -THRESHOLDS.exponent_step)
        self._decide(diagnosis)
        if (
            diagnosis.best_run is not None
            and not diagnosis.baseline.failed
            and (self._suspect(diagnosis) or diagnosis.near_edge(self.stress()))
        ):
            self._confirm(diagnosis)
            if diagnosis.too_high and self.decays and diagnosis.level < THRESHOLDS.never_heals * abs(diagnosis.opening):
                self._cool(diagnosis)
        quick = round(THRESHOLDS.early_share * self.steps)
        if diagnosis.too_high and self._shows(diagnosis, quick):
            diagnosis.steps_to_tell = quick
        return diagnosis

    def _shows(self, diagnosis: Diagnosis, steps: int) -> bool:
        """Whether so many steps tell good from bad: the base has lost it all by then, and the best run learns well."""
        assert diagnosis.best_run is not None
        return diagnosis.baseline.level(steps) >= diagnosis.loss_after_drop(
            1 - THRESHOLDS.no_progress
        ) and diagnosis.best_run.level(steps) < diagnosis.loss_after_drop(THRESHOLDS.learns_well)

    def stress(self) -> TrialRun:
        """The run with all rates higher."""
        return self.trial.run(
            [10.0**THRESHOLDS.higher_rate_exponent] * self.trial.count, round(THRESHOLDS.higher_rate_steps * self.steps)
        )

    def _rung(self, diagnosis: Diagnosis, exponent: float, above: TrialRun | None = None) -> TrialRun:
        give_up = None
        if above is not None and above.level() < diagnosis.loss_after_drop(THRESHOLDS.least_progress):
            give_up = hopeless({self.steps // 2: THRESHOLDS.half_way_shortfall}, above, diagnosis.opening)
        factors = [10.0**exponent] * self.trial.count
        diagnosis.reduced_runs[exponent] = self.trial.run(factors, self.steps, keep=True, hopeless=give_up)
        return diagnosis.reduced_runs[exponent]

    def _below(self, diagnosis: Diagnosis) -> None:
        """Slower is better: down to where it no longer is. Runs that take nothing off the loss cannot tell."""
        exponent, above = -1.0, diagnosis.reduced_runs[-1.0]
        while exponent > (THRESHOLDS.deepest_exponent if above.failed else THRESHOLDS.lowest_exponent):
            exponent -= 1
            rung = self._rung(diagnosis, exponent, above)
            if rung.ended == "given up" or rung.level() < diagnosis.loss_after_drop(THRESHOLDS.least_progress):
                break
            if rung.level() >= above.level() and above.level() <= diagnosis.opening - diagnosis.floor:
                break
            above = min(above, rung, key=TrialRun.level)

    def _linger(self, diagnosis: Diagnosis) -> None:
        """No run made progress: the run as configured and the two highest rates that did not fail go on to ``extension``
        times the length.
        """
        holding = sorted((e for e, rung in diagnosis.reduced_runs.items() if not rung.failed), reverse=True)
        if (
            not holding
            or min(diagnosis.reduced_runs[e].level() for e in holding) <= diagnosis.opening - diagnosis.floor
        ):
            return
        self._go_on(diagnosis, round(self.steps * THRESHOLDS.extension))
        diagnosis.steps_to_tell = diagnosis.length
        for exponent in holding[:2]:
            diagnosis.reduced_runs[exponent] = self.trial.extend(diagnosis.reduced_runs[exponent], diagnosis.length)

    def _clearly(self, diagnosis: Diagnosis, slower: float) -> bool:
        """The base learns well, and slower learns much less."""
        return diagnosis.level < diagnosis.loss_after_drop(
            THRESHOLDS.learns_well
        ) and slower - diagnosis.level > THRESHOLDS.learns_well * (diagnosis.opening - diagnosis.level)

    def _decide(self, diagnosis: Diagnosis) -> None:
        length = diagnosis.length
        levels = {
            e: r.level(length) for e, r in diagnosis.reduced_runs.items() if not r.failed and len(r.losses) >= length
        }
        diagnosis.exponent = min(levels, key=lambda e: (levels[e], -e), default=0.0)
        diagnosis.best_run = diagnosis.reduced_runs.get(diagnosis.exponent)
        self._measure(diagnosis)

    def _suspect(self, diagnosis: Diagnosis) -> bool:
        """Slower is a little better, or the loss leapt at first: what that destroyed may show later."""
        return (
            diagnosis.rose_far
            or diagnosis.spiked
            or diagnosis.shortfall > THRESHOLDS.suspect_shortfall * diagnosis.progress + diagnosis.floor / 2
        )

    def _measure(self, diagnosis: Diagnosis) -> None:
        """Verdict and score: what the base loses, as a share of what the best run gains."""
        best = math.inf if diagnosis.best_run is None else diagnosis.best_run.level(diagnosis.length)
        diagnosis.progress = max(diagnosis.opening - best, 0.0)
        if diagnosis.baseline.failed:
            diagnosis.too_high, diagnosis.course = diagnosis.best_run is not None, "diverges"
            diagnosis.score = 3.0 - len(diagnosis.baseline.losses) / max(3 * diagnosis.length, 1)
        else:
            share, diagnosis.course = (
                THRESHOLDS.confirmed_shortfall if diagnosis.confirmed else THRESHOLDS.shortfall,
                "learns",
            )
            diagnosis.score = (
                max(min(diagnosis.relative_shortfall, 2.0), -2.0)
                if math.isfinite(diagnosis.relative_shortfall)
                else 0.0
            )
            diagnosis.too_high = (
                diagnosis.best_run is not None and diagnosis.shortfall > share * diagnosis.progress + diagnosis.floor
            )
        if diagnosis.too_high:
            diagnosis.course = (
                "diverges" if diagnosis.level >= diagnosis.loss_after_drop(1 - THRESHOLDS.no_progress) else "degraded"
            )
            diagnosis.shown_after = diagnosis.shown_after or diagnosis.length

    def _confirm(self, diagnosis: Diagnosis) -> None:
        """Both go on: an early instability that heals is no fault, and a slow one shows."""
        diagnosis.confirmed = True
        if diagnosis.level > THRESHOLDS.ruined * abs(diagnosis.opening):
            return
        kept, length = 1.0, round(diagnosis.length * THRESHOLDS.extension)
        while length <= THRESHOLDS.longest * self.steps:
            before = diagnosis.relative_shortfall
            self._go_on(diagnosis, length)
            self._measure(diagnosis)
            if diagnosis.baseline.failed:
                return
            kept = max(diagnosis.relative_shortfall, 0.0) / max(before, TINY)
            doubtful = (
                diagnosis.too_high
                and diagnosis.score < THRESHOLDS.certain_shortfall
                and length < THRESHOLDS.uncertain_length * self.steps
            )
            heals = (
                kept < 1 - THRESHOLDS.healing
                and diagnosis.relative_shortfall * kept ** (2 * (THRESHOLDS.longest - length / self.steps))
                <= THRESHOLDS.confirmed_shortfall
            )
            falls_behind = diagnosis.score > THRESHOLDS.suspect_shortfall and diagnosis.relative_shortfall > before * (
                1 + THRESHOLDS.healing
            )
            if not (doubtful or diagnosis.spiked or (heals if diagnosis.too_high else falls_behind)):
                return
            length += self.steps
        self._foresee(diagnosis, kept)

    def _cool(self, diagnosis: Diagnosis) -> None:
        """The base goes on at low rates: where the schedule lets them fall, only damage that lasts is a fault."""
        if diagnosis.length < THRESHOLDS.uncertain_length * self.steps:
            self._go_on(diagnosis, THRESHOLDS.uncertain_length * self.steps)
            self._measure(diagnosis)
        if diagnosis.baseline.failed or not diagnosis.too_high or diagnosis.best_run is None:
            return
        length = diagnosis.length + round(THRESHOLDS.extension * self.steps)
        cooled, best = self.trial.cool(diagnosis.baseline, length), self.trial.extend(diagnosis.best_run, length)
        left = relative_shortfall(cooled.level(), best.level(), self.trial.start(length))
        regained = self.trial.start(length) - cooled.level() >= THRESHOLDS.regained * abs(self.trial.start(length))
        if left < THRESHOLDS.healed_shortfall and (regained or diagnosis.level <= diagnosis.opening + diagnosis.floor):
            diagnosis.too_high, diagnosis.healed, diagnosis.course, diagnosis.score = (
                False,
                True,
                "learns",
                min(diagnosis.score, left),
            )

    def _go_on(self, diagnosis: Diagnosis, length: int) -> None:
        """The base, and what it is compared with, to this length."""
        diagnosis.length, diagnosis.opening = length, self.trial.start(length)
        if not diagnosis.baseline.failed:
            diagnosis.baseline = self.trial.extend(diagnosis.baseline, length)
        if diagnosis.best_run is not None and not diagnosis.best_run.failed:
            diagnosis.best_run = diagnosis.reduced_runs[diagnosis.exponent] = self.trial.extend(
                diagnosis.best_run, length
            )

    def _foresee(self, diagnosis: Diagnosis, kept: float) -> None:
        """Still healing at the longest length: drop the verdict if the shortfall, which shrinks to ``kept`` of itself per
        extension, would be healed within as many steps again.
        """
        score = diagnosis.score * kept ** (diagnosis.length / self.steps)
        if diagnosis.course == "degraded" and score < THRESHOLDS.confirmed_shortfall:
            diagnosis.too_high, diagnosis.course, diagnosis.score = False, "learns", score
