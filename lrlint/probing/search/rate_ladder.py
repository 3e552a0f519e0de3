"""What runs at reduced rates say: does the setup hold, and how far is it from not holding.

A run as configured is compared with runs from the same state, on the same batches and with the same random numbers, in
which only rates differ. On 373 labelled setups such interventions beat every passive signal (loss, norms, sharpness):
0.96 against 0.94 and less of the area under the ROC curve. Limits are from 1132 labelled setups of `benchmarks.probe`,
none of them among those that it reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lrlint.probing.search.trial import FLOOR, TINY, Outcome, Trial, arrears, hopeless

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
class Judgement:
    """What the runs at common factors say.

    ``length``: of the runs that were judged; ``opening``: the loss without any step, over what these close with.
    ``best`` is the run with the lowest level, ``gain`` what it took away. ``unit``: steps after which any of them takes
    something off the loss; ``shown``: after which the fault showed first. ``healed``: it passes when the rates fall.
    """

    base: Outcome
    length: int
    opening: float
    rungs: dict[float, Outcome] = field(default_factory=dict)
    best: Outcome | None = None
    exponent: float = 0.0
    gain: float = 0.0
    score: float = 0.0
    sick: bool = False
    course: str = "learns"
    confirmed: bool = False
    unit: int = 0
    shown: int = 0
    healed: bool = False

    @property
    def floor(self) -> float:
        """A difference of the loss below this is none."""
        return max(FLOOR * abs(self.opening), TINY)

    @property
    def level(self) -> float:
        """Of the run as configured."""
        return self.base.level(self.length)

    @property
    def lost(self) -> float:
        """What the run as configured lacks of what the best one gains."""
        return self.level - (self.opening - self.gain)

    @property
    def arrears(self) -> float:
        """The same as a share of that gain."""
        return arrears(self.level, self.opening - self.gain, self.opening)

    @property
    def still(self) -> bool:
        """No run takes anything off the loss."""
        runs = [run for run in (self.base, *self.rungs.values()) if len(run.losses) >= self.length]
        return self.opening - min(run.level(self.length) for run in runs) <= self.floor

    @property
    def leapt(self) -> bool:
        """Whether the run as configured went far above its start."""
        return max(self.base.losses) > LEAP * max(abs(self.opening), TINY)

    @property
    def spiked(self) -> bool:
        """Whether the run as configured had nearly learnt it all, and then lost much of that."""
        lowest, limit = math.inf, FELL * abs(self.opening)
        for three in zip(self.base.losses, self.base.losses[1:], self.base.losses[2:], strict=False):
            loss = sorted(three)[1]  # single batches differ that much where the loss is small
            if lowest < limit and loss > max(limit, SPIKES * abs(lowest)):
                return True
            lowest = min(lowest, loss)
        return False

    def frail(self, up: Outcome) -> bool:
        """Whether a run at somewhat higher rates ends above its start, and some more."""
        length = len(up.losses)
        best = min(run.level(length) for run in (self.base, *self.rungs.values()))
        return arrears(up.level(), best, self.opening) > FRAIL

    def less(self, share: float) -> float:
        """The initial loss less a share of its size; losses may be negative."""
        return self.opening - share * abs(self.opening)


def behind(trial: Trial, found: Judgement, run: Outcome) -> float:
    """What a run lacks of what the best one gains in as many steps, as a share of that: `arrears`."""
    if run.broke:
        return math.inf
    assert found.best is not None
    length = len(run.losses)
    opening = trial.start(length)
    if not found.best.broke:
        found.best = trial.extend(found.best, length)
    return arrears(run.level(), min(found.best.level(length), opening), opening)


class Ladder:
    """The run as configured, and those with all rates reduced, searched as if the loss had one minimum over the rate."""

    def __init__(self, trial: Trial, steps: int, decays: bool = False) -> None:
        """``decays``: the schedule lets the rates fall below half their peak."""
        self.trial, self.steps, self.decays = trial, steps, decays

    def judge(self) -> Judgement:
        """The verdict at common factors, confirmed by longer runs where it is not clear."""
        trial = self.trial
        base = trial.run([1.0] * trial.count, self.steps, keep=True)
        found = Judgement(base, self.steps, trial.start(self.steps), unit=self.steps)
        level, slower = base.level(), self._rung(found, -1.0).level()
        if slower < level or math.isinf(slower) or level > found.less(1 - LOST):
            self._below(found)
            self._linger(found)
        elif not self._clearly(found, slower):
            self._rung(found, -HALF)
        self._decide(found)
        if found.best is not None and not found.base.broke and (self._suspect(found) or found.frail(self.stress())):
            self._confirm(found)
            if found.sick and self.decays and found.level < HOPELESS * abs(found.opening):
                self._cool(found)
        quick = round(QUICK * self.steps)
        if found.sick and self._shows(found, quick):
            found.unit = quick
        return found

    def _shows(self, found: Judgement, steps: int) -> bool:
        """Whether so many steps tell good from bad: the base has lost it all by then, and the best run learns well."""
        assert found.best is not None
        return found.base.level(steps) >= found.less(1 - LOST) and found.best.level(steps) < found.less(LEARNS)

    def stress(self) -> Outcome:
        """The run with all rates higher."""
        return self.trial.run([10.0**STRESS] * self.trial.count, round(STRESSED * self.steps))

    def _rung(self, found: Judgement, exponent: float, above: Outcome | None = None) -> Outcome:
        asked = None
        if above is not None and above.level() < found.less(TAKES):
            asked = hopeless({self.steps // 2: SLOWER}, above, found.opening)
        factors = [10.0**exponent] * self.trial.count
        found.rungs[exponent] = self.trial.run(factors, self.steps, keep=True, hopeless=asked)
        return found.rungs[exponent]

    def _below(self, found: Judgement) -> None:
        """Slower is better: down to where it no longer is. Runs that take nothing off the loss cannot tell."""
        exponent, above = -1.0, found.rungs[-1.0]
        while exponent > (DEEPEST if above.broke else LOWEST):
            exponent -= 1
            rung = self._rung(found, exponent, above)
            if rung.ended == "given up" or rung.level() < found.less(TAKES):
                break
            if rung.level() >= above.level() and above.level() <= found.opening - found.floor:
                break
            above = min(above, rung, key=Outcome.level)

    def _linger(self, found: Judgement) -> None:
        """Where no rate takes anything off the loss yet, the runs as configured and just below get more time."""
        holding = sorted((e for e, rung in found.rungs.items() if not rung.broke), reverse=True)
        if not holding or min(found.rungs[e].level() for e in holding) <= found.opening - found.floor:
            return
        self._go_on(found, round(self.steps * LONG))
        found.unit = found.length
        for exponent in holding[:2]:
            found.rungs[exponent] = self.trial.extend(found.rungs[exponent], found.length)

    def _clearly(self, found: Judgement, slower: float) -> bool:
        """The base learns well, and slower learns much less."""
        return found.level < found.less(LEARNS) and slower - found.level > LEARNS * (found.opening - found.level)

    def _decide(self, found: Judgement) -> None:
        length = found.length
        levels = {e: r.level(length) for e, r in found.rungs.items() if not r.broke and len(r.losses) >= length}
        found.exponent = min(levels, key=lambda e: (levels[e], -e), default=0.0)
        found.best = found.rungs.get(found.exponent)
        self._measure(found)

    def _suspect(self, found: Judgement) -> bool:
        """Slower is a little better, or the loss leapt at first: what that destroyed may show later."""
        return found.leapt or found.spiked or found.lost > SUSPECT * found.gain + found.floor / 2

    def _measure(self, found: Judgement) -> None:
        """Verdict and score: what the base loses, as a share of what the best run gains."""
        best = math.inf if found.best is None else found.best.level(found.length)
        found.gain = max(found.opening - best, 0.0)
        if found.base.broke:
            found.sick, found.course = found.best is not None, "diverges"
            found.score = 3.0 - len(found.base.losses) / max(3 * found.length, 1)
        else:
            share, found.course = CONFIRMED if found.confirmed else GAIN, "learns"
            found.score = max(min(found.arrears, 2.0), -2.0) if math.isfinite(found.arrears) else 0.0
            found.sick = found.best is not None and found.lost > share * found.gain + found.floor
        if found.sick:
            found.course = "diverges" if found.level >= found.less(1 - LOST) else "degraded"
            found.shown = found.shown or found.length

    def _confirm(self, found: Judgement) -> None:
        """Both go on: an early instability that heals is no fault, and a slow one shows."""
        found.confirmed = True
        if found.level > RUINED * abs(found.opening):
            return
        kept, length = 1.0, round(found.length * LONG)
        while length <= PATIENCE * self.steps:
            before = found.arrears
            self._go_on(found, length)
            self._measure(found)
            if found.base.broke:
                return
            kept = max(found.arrears, 0.0) / max(before, TINY)
            doubtful = found.sick and found.score < SURE and length < INSIST * self.steps
            heals = kept < 1 - HEALS and found.arrears * kept ** (2 * (PATIENCE - length / self.steps)) <= CONFIRMED
            falls_behind = found.score > SUSPECT and found.arrears > before * (1 + HEALS)
            if not (doubtful or found.spiked or (heals if found.sick else falls_behind)):
                return
            length += self.steps
        self._foresee(found, kept)

    def _cool(self, found: Judgement) -> None:
        """The base goes on at low rates: where the schedule lets them fall, only damage that lasts is a fault."""
        if found.length < INSIST * self.steps:
            self._go_on(found, INSIST * self.steps)
            self._measure(found)
        if found.base.broke or not found.sick or found.best is None:
            return
        length = found.length + round(LONG * self.steps)
        cooled, best = self.trial.cool(found.base, length), self.trial.extend(found.best, length)
        left = arrears(cooled.level(), best.level(), self.trial.start(length))
        regained = self.trial.start(length) - cooled.level() >= REGAINS * abs(self.trial.start(length))
        if left < HEALED and (regained or found.level <= found.opening + found.floor):
            found.sick, found.healed, found.course, found.score = False, True, "learns", min(found.score, left)

    def _go_on(self, found: Judgement, length: int) -> None:
        """The base, and what it is compared with, to this length."""
        found.length, found.opening = length, self.trial.start(length)
        if not found.base.broke:
            found.base = self.trial.extend(found.base, length)
        if found.best is not None and not found.best.broke:
            found.best = found.rungs[found.exponent] = self.trial.extend(found.best, length)

    def _foresee(self, found: Judgement, kept: float) -> None:
        """Still healing when patience ends: at this pace, is it healed after as many steps again?"""
        score = found.score * kept ** (found.length / self.steps)
        if found.course == "degraded" and score < CONFIRMED:
            found.sick, found.course, found.score = False, "learns", score
