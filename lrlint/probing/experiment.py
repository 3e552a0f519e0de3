"""The probe from start to end: which runs are made, in which order, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lrlint.facts.probe import GradientTail, NonFinite
from lrlint.probing import diagnosis
from lrlint.probing.laboratory import Laboratory, Spent
from lrlint.probing.search.advice import Adviser, Change
from lrlint.probing.search.attribution import Attribution, Blame
from lrlint.probing.search.rate_ladder import STRESS, STRESSED, Judgement, Ladder
from lrlint.probing.search.trial import FLOOR, Outcome

#: Optimizers for which clipping can stand in for a lower rate: their step scales with the gradient.
_CLIPPABLE = frozenset(("sgd",))
#: A loss below this is learnt already: that it does not fall says nothing.
_LEARNT = 1e-3
#: Rates may be low on purpose (a careful fine-tuning); not by more than this exponent of ten.
NEEDS = 2.0
#: The score of a setup that does not learn at all: as far from health as one that loses all there is to gain.
STUCK = 1.0
MEMORY = "a step needs more memory than there is"
#: After so many times the steps of a run no further small set is looked for.
ENOUGH = 8


@dataclass
class Result:
    """What the runs say; `lrlint.probing.facts` turns it into facts."""

    verdict: str = "inconclusive"
    course: str = ""
    reason: str = ""
    score: float = 0.0
    margin: float | None = None
    judged: Judgement | None = None
    guilty: tuple[int, ...] = ()
    changes: list[Change] = field(default_factory=list)
    tail: GradientTail | None = None
    repaired: bool = False
    non_finite: NonFinite | None = None
    seen: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


class Experiment:
    """``families``: of the optimizers whose groups are probed; ``clipped``: the setup declares clipping; ``decays``: its
    rates fall in the end.
    """

    def __init__(
        self,
        lab: Laboratory,
        names: diagnosis.Names,
        steps: int,
        *,
        families: Sequence[str],
        clipped: bool,
        decays: bool,
    ) -> None:
        self.lab, self.names, self.steps = lab, names, steps
        self.families, self.clipped = families, clipped
        self.ladder = Ladder(lab, steps, decays)
        self.result = Result()
        self.watch = diagnosis.Watch(lab, names)

    def conduct(self) -> Result:
        """All runs. What is known when the time is over is what is said."""
        lab, result = self.lab, self.result
        lab.expected, lab.stage = 4 * self.steps, "rates as configured and lower"
        try:
            if not math.isfinite(lab.start(self.steps)):
                return self._broken_start()
            self._judge()
        except Spent:
            result.notes.append(f"the time was over after {lab.steps} steps")
            if result.verdict == "inconclusive":
                result.reason = result.reason or "the time was over before there was a verdict"
        finally:
            lab.close()
        return result

    def _broken_start(self) -> Result:
        """The loss is not finite before any step."""
        result = self.result
        run = self.lab.run([1.0] * self.lab.count, self.steps)
        if run.ended == "memory" or self.lab.short:
            result.reason = MEMORY
            return result
        found = self._first_failure(run)
        result.verdict, result.course, result.score = "unstable", "diverges", 3.0
        result.non_finite = found
        result.reason = "the loss is not finite before the first step"
        return result

    def _judge(self) -> None:
        lab, result = self.lab, self.result
        lab.watch = self.watch
        judged = result.judged = self.ladder.judge()
        result.score, result.course = judged.score, judged.course
        if any(outcome.ended == "memory" for outcome in lab.outcomes):
            result.reason = MEMORY
            return
        kept = lab.ramp > 0 and not self.ladder.decays
        adviser = Adviser(lab, judged, self.steps, self.promises(), kept)
        result.tail = adviser.quiet_tail()
        if judged.base.broke and judged.best is None:
            self._nothing_holds(adviser)
        elif judged.sick:
            self._sick(adviser)
        elif judged.still:
            self._stalled(adviser)
        else:
            self._stable(adviser)

    def _nothing_holds(self, adviser: Adviser) -> None:
        """Every rate breaks: the rate is not the cause."""
        result = self.result
        assert result.judged is not None
        result.verdict, result.score = "unstable", 3.0
        if self._outliers(adviser):
            return
        result.reason = "no rate holds, not even a millionth of these"
        result.non_finite = self._first_failure(result.judged.base)
        result.seen = diagnosis.seen(self.lab, self.names)

    def _first_failure(self, outcome: Outcome) -> NonFinite | None:
        if outcome.ended != "non-finite":
            return None
        return diagnosis.find(self.lab, self.names, outcome)

    def _sick(self, adviser: Adviser) -> None:
        lab, result = self.lab, self.result
        assert result.judged is not None
        result.verdict = "unstable"
        if result.judged.still:
            steps = result.judged.length
            result.reason = (
                f"no rate makes measurable progress in {steps} steps: what repairs it is only seen to do no harm"
            )
        lab.expected, lab.stage = lab.steps + 7 * self.steps, "looking for the groups to blame"
        if self._outliers(adviser):
            return
        self._blame(Attribution(lab, result.judged, result.judged.unit, adviser.promises), adviser)
        light = result.tail is not None and not result.tail.heavy
        if not self.clipped and light and result.tail is not None and set(self.families) <= _CLIPPABLE:
            change, _ = adviser.clip(result.tail)
            result.changes.append(change)

    def _blame(self, attribution: Attribution, adviser: Adviser) -> None:
        """Smaller sets first: the first whose reduction lasts is guilty. Where none does, all groups are: lower rates for
        all were better, that is known. One group that dominates them is guilty alone.
        """
        result = self.result
        for blame in self._sets(attribution):
            result.guilty = blame.groups
            self.lab.stage = "trying what repairs it"
            change = adviser.rate(blame)
            if change.verified:
                break
        result.guilty = attribution.guilty(blame)
        if len(blame.groups) < self.lab.count and (other := adviser.instead(change, attribution.everything)):
            result.changes.append(other)
        result.changes.append(change)

    def _sets(self, attribution: Attribution) -> Iterator[Blame]:
        """Sets to reduce, each at the largest factor that holds; all groups at last."""
        everything = attribution.everything
        for blame in attribution.candidates():
            yield attribution.largest(blame)
            if len(blame.groups) == len(everything.groups):
                return
            if self.lab.steps > ENOUGH * self.steps:
                break
        yield everything

    def _clip(self, adviser: Adviser) -> bool:
        """Whether clipping at the tail's value is the cure."""
        result = self.result
        if self.clipped or result.tail is None or not result.tail.heavy:
            return False
        change, result.repaired = adviser.clip(result.tail)
        result.changes.append(change)
        return result.repaired

    def _outliers(self, adviser: Adviser) -> bool:
        """Whether what is wrong is wrong for a few batches, and clipping repairs it."""
        repaired = self._clip(adviser)
        if repaired:
            self.result.reason = "a few batches have gradients far above the others"
        return repaired

    def promises(self) -> list[float]:
        """−g·u of each group's first step as configured: the decrease of the loss that its update promises; 0 for none."""
        assert self.result.judged is not None
        trace = self.lab.trace(self.result.judged.base)
        slopes = [(trace.slope.get(key) or [0.0])[0] for key in self.lab.keys]
        return [max(-slope, 0.0) if math.isfinite(slope) else math.inf for slope in slopes]

    def _stalled(self, adviser: Adviser) -> None:
        """Can one batch be learnt by heart, at any rate? A model that cannot do that does not learn."""
        lab, result = self.lab, self.result
        if self._outliers(adviser):
            result.verdict, result.course, result.score = "unstable", "degraded", max(result.score, STUCK)
            return
        if abs(lab.opening) < _LEARNT:
            result.verdict, result.course, result.reason = "stable", "learns", "the loss is near zero from the start"
            return
        lab.expected, lab.stage = lab.steps + 5 * self.steps, "learning one batch by heart"
        batch = diagnosis.one_batch(lab.batches)
        for exponent in (0.0, 1.0, 2.0, -1.0, 4.0):
            outcome = lab.run_on(batch, [10.0**exponent] * lab.count, self.steps)
            start = outcome.losses[0] if outcome.losses else math.nan
            if outcome.losses and min(outcome.losses) < start - FLOOR * abs(start):
                break
        else:
            result.verdict, result.course, result.score = "stalled", "stalls", max(result.score, STUCK)
            result.reason = "no rate learns even one repeated batch"
            result.seen = diagnosis.seen(lab, self.names)
            return
        times = f"{10.0**exponent:g} times the rates" if exponent else "these rates"
        if exponent > NEEDS:
            result.verdict, result.course, result.score = "stalled", "stalls", max(result.score, STUCK)
            result.reason = f"a repeated batch is not learnt at 100 times the rates, but at {times}: they are too low"
            return
        result.verdict, result.course = "stable", "learns"
        result.reason = f"no measurable progress in {self.steps} steps; {times} learn a repeated batch"

    def _stable(self, adviser: Adviser) -> None:
        lab, result = self.lab, self.result
        assert result.judged is not None
        result.verdict = "stable"
        self._clip(adviser)
        if result.judged.healed:
            result.reason = "what the peak rates spoil is made good when the schedule lets them fall"
        elif result.judged.leapt and not (result.tail is not None and result.tail.heavy):
            start, top = result.judged.opening, max(result.judged.base.losses)
            result.reason = f"the loss leapt from {start:.3g} to {top:.3g}, and came back"
        steps = round(STRESSED * self.steps)
        base, level = result.judged.base.level(steps), self.ladder.stress().level()
        allowed = base + 0.3 * max(lab.opening - base, 0.0) + FLOOR * abs(lab.opening)
        result.margin = float(f"{10.0**STRESS:.2g}") if level <= allowed else 1.0
