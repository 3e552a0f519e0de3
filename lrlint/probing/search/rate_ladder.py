"""What runs at reduced rates say: does the setup hold, and how far is it from not holding.

A run as configured is compared with runs from the same state, on the same batches and with the same random numbers, in
which only rates differ. On 373 labelled setups such interventions beat every passive signal (loss, norms, sharpness):
0.96 against 0.94 and less of the area under the ROC curve. Limits are from 1132 labelled setups of `benchmarks.probe`,
none of them among those that it reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lrlint.probing.search.trial import FLOOR, TINY, RunFactory, TrialRun, hopeless, relative_shortfall

#: Sick: a lower rate is better by this share of what it gains, and by `FLOOR` of the initial loss.
GAIN = 0.3
#: The same once both runs went on to `LONG` times the length: early instabilities that heal are no fault.
CONFIRMED = 0.45
LONG = 2
#: A base that lost more than this share of what the best run gains is sick there and then; a lesser loss has to show at
#: so many times the length as well.
SURE, INSIST = 0.6, 3
#: A run as configured that still makes up this share of its arrears goes on, up to so many times the length; unless it
#: would not get there at twice this pace.
HEALS, PATIENCE = 0.25, 5
#: Where the schedule lets rates fall, damage that heals at low ones is no fault: arrears below this share then. Nothing
#: that is so many times above the initial loss was seen to heal.
HEALED, HOPELESS = 0.5, 10.0
#: A base that rose is not healed by rates at which it only falls back to its start: the run at low rates has to take this
#: share off the loss itself. Of 10 labelled setups with such a base that would pass otherwise, 9 did: 8 were healthy after
#: 300 steps, one reached 0.73 of the progress; the one that did not reached 0.30. Of 24 that do not pass one was healthy.
REGAINS = 0.2
#: A loss that fell below this share of the start, and then is above it and so many times its lowest, is pursued to the
#: end of patience: what spikes once may end in ruin.
FELL, SPIKES = 0.1, 5.0
#: A run as configured that closes so many times above the start is not followed at all: of 118 healthy setups near the
#: edge the highest stood at 34 times.
RUINED = 100.0
#: A loss above this share of the initial one is no progress.
LOST = 0.95
#: From this share on, or from a loss so many times the initial one on, both go on before anything is said; also where
#: the run at higher rates lost more than this share: what is near the edge may go over it late.
SUSPECT, LEAP, FRAIL = 0.15, 2.0, 1.2
#: A run that took away this share of the initial loss learns well; if slower is not better it is not looked at again.
LEARNS = 0.3
#: One at reduced rates that took away this share is not looked below.
TAKES = 0.15
#: Below one that took that away, a run that after half of its steps lacks this share of it is given up: of 104 that did
#: one would have become the better.
SLOWER = 0.5
#: Exponents of ten: the lowest of the ladder, the lowest where nothing above holds (as a rule after a slip of the
#: decimal point), and its finest step.
LOWEST, DEEPEST = -3.0, -6.0
HALF = 0.5
#: Where this share of the steps tells good from bad, attempts need no more: the run as configured has lost it all by then,
#: and the best one learns well.
QUICK = 2 / 3
#: The exponent of the run at higher rates, for the margin, and its share of the steps.
STRESS, STRESSED = 0.5, 2 / 3


@dataclass
class Diagnosis:
    """What the runs at common factors say.

    ``length``: of the runs that were judged; ``opening``: the loss without any step, over what these close with.
    ``best_run`` is the run with the lowest level, ``progress`` what it took away. ``steps_to_tell``: steps after which any of them takes
    something off the loss; ``shown_after``: after which the fault showed first. ``healed``: it passes when the rates fall.
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
        return max(FLOOR * abs(self.opening), TINY)

    @property
    def level(self) -> float:
        """Of the run as configured."""
        return self.baseline.level(self.length)

    @property
    def shortfall(self) -> float:
        """What the run as configured lacks of what the best one gains."""
        return self.level - (self.opening - self.progress)

    @property
    def relative_shortfall(self) -> float:
        """The same as a share of that gain."""
        return relative_shortfall(self.level, self.opening - self.progress, self.opening)

    @property
    def no_progress(self) -> bool:
        """No run takes anything off the loss."""
        runs = [run for run in (self.baseline, *self.reduced_runs.values()) if len(run.losses) >= self.length]
        return self.opening - min(run.level(self.length) for run in runs) <= self.floor

    @property
    def rose_far(self) -> bool:
        """Whether the run as configured went far above its start."""
        return max(self.baseline.losses) > LEAP * max(abs(self.opening), TINY)

    @property
    def spiked(self) -> bool:
        """Whether the run as configured had nearly learnt it all, and then lost much of that."""
        lowest, limit = math.inf, FELL * abs(self.opening)
        for three in zip(self.baseline.losses, self.baseline.losses[1:], self.baseline.losses[2:], strict=False):
            loss = sorted(three)[1]  # single batches differ that much where the loss is small
            if lowest < limit and loss > max(limit, SPIKES * abs(lowest)):
                return True
            lowest = min(lowest, loss)
        return False

    def near_edge(self, up: TrialRun) -> bool:
        """Whether a run at somewhat higher rates ends above its start, and some more."""
        length = len(up.losses)
        best = min(run.level(length) for run in (self.baseline, *self.reduced_runs.values()))
        return relative_shortfall(up.level(), best, self.opening) > FRAIL

    def loss_after_drop(self, share: float) -> float:
        """The initial loss less a share of its size; losses may be negative."""
        return self.opening - share * abs(self.opening)


def shortfall_of(trial: RunFactory, found: Diagnosis, run: TrialRun) -> float:
    """What a run lacks of what the best one gains in as many steps, as a share of that: `relative_shortfall`."""
    if run.failed:
        return math.inf
    assert found.best_run is not None
    length = len(run.losses)
    opening = trial.start(length)
    if not found.best_run.failed:
        found.best_run = trial.extend(found.best_run, length)
    return relative_shortfall(run.level(), min(found.best_run.level(length), opening), opening)


class RateSearch:
    """The run as configured, and those with all rates reduced, searched as if the loss had one minimum over the rate."""

    def __init__(self, trial: RunFactory, steps: int, decays: bool = False) -> None:
        """``decays``: the schedule lets the rates fall below half their peak."""
        self.trial, self.steps, self.decays = trial, steps, decays

    def judge(self) -> Diagnosis:
        """The verdict at common factors, confirmed by longer runs where it is not clear."""
        trial = self.trial
        base = trial.run([1.0] * trial.count, self.steps, keep=True)
        found = Diagnosis(base, self.steps, trial.start(self.steps), steps_to_tell=self.steps)
        level, slower = base.level(), self._rung(found, -1.0).level()
        if slower < level or math.isinf(slower) or level > found.loss_after_drop(1 - LOST):
            self._below(found)
            self._linger(found)
        elif not self._clearly(found, slower):
            self._rung(found, -HALF)
        self._decide(found)
        if (
            found.best_run is not None
            and not found.baseline.failed
            and (self._suspect(found) or found.near_edge(self.stress()))
        ):
            self._confirm(found)
            if found.too_high and self.decays and found.level < HOPELESS * abs(found.opening):
                self._cool(found)
        quick = round(QUICK * self.steps)
        if found.too_high and self._shows(found, quick):
            found.steps_to_tell = quick
        return found

    def _shows(self, found: Diagnosis, steps: int) -> bool:
        """Whether so many steps tell good from bad: the base has lost it all by then, and the best run learns well."""
        assert found.best_run is not None
        return found.baseline.level(steps) >= found.loss_after_drop(1 - LOST) and found.best_run.level(
            steps
        ) < found.loss_after_drop(LEARNS)

    def stress(self) -> TrialRun:
        """The run with all rates higher."""
        return self.trial.run([10.0**STRESS] * self.trial.count, round(STRESSED * self.steps))

    def _rung(self, found: Diagnosis, exponent: float, above: TrialRun | None = None) -> TrialRun:
        give_up = None
        if above is not None and above.level() < found.loss_after_drop(TAKES):
            give_up = hopeless({self.steps // 2: SLOWER}, above, found.opening)
        factors = [10.0**exponent] * self.trial.count
        found.reduced_runs[exponent] = self.trial.run(factors, self.steps, keep=True, hopeless=give_up)
        return found.reduced_runs[exponent]

    def _below(self, found: Diagnosis) -> None:
        """Slower is better: down to where it no longer is. Runs that take nothing off the loss cannot tell."""
        exponent, above = -1.0, found.reduced_runs[-1.0]
        while exponent > (DEEPEST if above.failed else LOWEST):
            exponent -= 1
            rung = self._rung(found, exponent, above)
            if rung.ended == "given up" or rung.level() < found.loss_after_drop(TAKES):
                break
            if rung.level() >= above.level() and above.level() <= found.opening - found.floor:
                break
            above = min(above, rung, key=TrialRun.level)

    def _linger(self, found: Diagnosis) -> None:
        """Where no rate takes anything off the loss yet, the runs as configured and just below get more time."""
        holding = sorted((e for e, rung in found.reduced_runs.items() if not rung.failed), reverse=True)
        if not holding or min(found.reduced_runs[e].level() for e in holding) <= found.opening - found.floor:
            return
        self._go_on(found, round(self.steps * LONG))
        found.steps_to_tell = found.length
        for exponent in holding[:2]:
            found.reduced_runs[exponent] = self.trial.extend(found.reduced_runs[exponent], found.length)

    def _clearly(self, found: Diagnosis, slower: float) -> bool:
        """The base learns well, and slower learns much less."""
        return found.level < found.loss_after_drop(LEARNS) and slower - found.level > LEARNS * (
            found.opening - found.level
        )

    def _decide(self, found: Diagnosis) -> None:
        length = found.length
        levels = {e: r.level(length) for e, r in found.reduced_runs.items() if not r.failed and len(r.losses) >= length}
        found.exponent = min(levels, key=lambda e: (levels[e], -e), default=0.0)
        found.best_run = found.reduced_runs.get(found.exponent)
        self._measure(found)

    def _suspect(self, found: Diagnosis) -> bool:
        """Slower is a little better, or the loss leapt at first: what that destroyed may show later."""
        return found.rose_far or found.spiked or found.shortfall > SUSPECT * found.progress + found.floor / 2

    def _measure(self, found: Diagnosis) -> None:
        """Verdict and score: what the base loses, as a share of what the best run gains."""
        best = math.inf if found.best_run is None else found.best_run.level(found.length)
        found.progress = max(found.opening - best, 0.0)
        if found.baseline.failed:
            found.too_high, found.course = found.best_run is not None, "diverges"
            found.score = 3.0 - len(found.baseline.losses) / max(3 * found.length, 1)
        else:
            share, found.course = CONFIRMED if found.confirmed else GAIN, "learns"
            found.score = (
                max(min(found.relative_shortfall, 2.0), -2.0) if math.isfinite(found.relative_shortfall) else 0.0
            )
            found.too_high = found.best_run is not None and found.shortfall > share * found.progress + found.floor
        if found.too_high:
            found.course = "diverges" if found.level >= found.loss_after_drop(1 - LOST) else "degraded"
            found.shown_after = found.shown_after or found.length

    def _confirm(self, found: Diagnosis) -> None:
        """Both go on: an early instability that heals is no fault, and a slow one shows."""
        found.confirmed = True
        if found.level > RUINED * abs(found.opening):
            return
        kept, length = 1.0, round(found.length * LONG)
        while length <= PATIENCE * self.steps:
            before = found.relative_shortfall
            self._go_on(found, length)
            self._measure(found)
            if found.baseline.failed:
                return
            kept = max(found.relative_shortfall, 0.0) / max(before, TINY)
            doubtful = found.too_high and found.score < SURE and length < INSIST * self.steps
            heals = (
                kept < 1 - HEALS
                and found.relative_shortfall * kept ** (2 * (PATIENCE - length / self.steps)) <= CONFIRMED
            )
            falls_behind = found.score > SUSPECT and found.relative_shortfall > before * (1 + HEALS)
            if not (doubtful or found.spiked or (heals if found.too_high else falls_behind)):
                return
            length += self.steps
        self._foresee(found, kept)

    def _cool(self, found: Diagnosis) -> None:
        """The base goes on at low rates: where the schedule lets them fall, only damage that lasts is a fault."""
        if found.length < INSIST * self.steps:
            self._go_on(found, INSIST * self.steps)
            self._measure(found)
        if found.baseline.failed or not found.too_high or found.best_run is None:
            return
        length = found.length + round(LONG * self.steps)
        cooled, best = self.trial.cool(found.baseline, length), self.trial.extend(found.best_run, length)
        left = relative_shortfall(cooled.level(), best.level(), self.trial.start(length))
        regained = self.trial.start(length) - cooled.level() >= REGAINS * abs(self.trial.start(length))
        if left < HEALED and (regained or found.level <= found.opening + found.floor):
            found.too_high, found.healed, found.course, found.score = False, True, "learns", min(found.score, left)

    def _go_on(self, found: Diagnosis, length: int) -> None:
        """The base, and what it is compared with, to this length."""
        found.length, found.opening = length, self.trial.start(length)
        if not found.baseline.failed:
            found.baseline = self.trial.extend(found.baseline, length)
        if found.best_run is not None and not found.best_run.failed:
            found.best_run = found.reduced_runs[found.exponent] = self.trial.extend(found.best_run, length)

    def _foresee(self, found: Diagnosis, kept: float) -> None:
        """Still healing when patience ends: at this pace, is it healed after as many steps again?"""
        score = found.score * kept ** (found.length / self.steps)
        if found.course == "degraded" and score < CONFIRMED:
            found.too_high, found.course, found.score = False, "learns", score
