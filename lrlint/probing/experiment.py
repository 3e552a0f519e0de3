"""The probe from start to end: which runs are made, in which order, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from lrlint.facts.probe import GradientTail, NonFinite, ProbeExtent
from lrlint.probing import diagnosis
from lrlint.probing.laboratory import BudgetSpent, TrialRunner
from lrlint.probing.search.advice import Adviser, Change
from lrlint.probing.search.attribution import Attribution, GroupReduction
from lrlint.probing.search.headroom import GroupHeadroom, HeadroomSearch
from lrlint.probing.search.low_rate import Length, Low, LowRateSearch
from lrlint.probing.search.rate_ladder import STRESS, STRESSED, Diagnosis, RateSearch
from lrlint.probing.search.thresholds import LOW, SINGLE
from lrlint.probing.search.trial import FLOOR, TINY, TrialRun
from lrlint.probing.training.measure import Bench

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
#: A best run that took less than this share off the loss has not seen enough to call rates stable: on a plateau dead rates
#: look like sound ones. Before that is said the run as configured goes on, up to so many times the steps.
SAW, LOOKS = 0.2, 3
#: The same when asked to be thorough: up to so many steps.
THOROUGH = 300
#: Other seeds that a thorough probe tries the rates with.
SEEDS = 2


@dataclass(frozen=True)
class Terms:
    """What an experiment is conducted under, beside the setup.

    ``families``: of the optimizers whose groups are probed; ``clipped``: the setup declares clipping; ``decays``: its
    rates fall in the end. ``length``: of the training; None where too low cannot be asked (it goes on from the middle).
    ``weak``: batches or loss are made up. ``pretrained``: whether the group at a position holds trained weights, where that
    shows.
    ``headroom``: whether it is looked for. ``thorough``: longer runs, and more seeds.
    """

    families: Sequence[str]
    clipped: bool
    decays: bool
    length: Length | None = None
    weak: bool = False
    pretrained: Mapping[int, bool] = field(default_factory=dict)
    headroom: bool = True
    thorough: bool = False


@dataclass
class Result:
    """What the runs say; `lrlint.probing.facts` turns it into facts."""

    verdict: str = "inconclusive"
    course: str = ""
    reason: str = ""
    score: float = 0.0
    margin: float | None = None
    judged: Diagnosis | None = None
    guilty: tuple[int, ...] = ()
    changes: list[Change] = field(default_factory=list)
    tail: GradientTail | None = None
    repaired: bool = False
    non_finite: NonFinite | None = None
    seen: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    extent: ProbeExtent | None = None
    low: list[Low] = field(default_factory=list)
    rooms: list[GroupHeadroom] = field(default_factory=list)
    metric: float | None = None


class Experiment:
    """All runs of a probe, in order; ``steps``: of one run."""

    def __init__(self, lab: TrialRunner, names: diagnosis.Names, steps: int, terms: Terms) -> None:
        self.lab, self.names, self.steps, self.terms = lab, names, steps, terms
        self.clipped = terms.clipped
        self.ladder = RateSearch(lab, steps, terms.decays)
        self.bench = Bench(lab)
        self.result = Result()
        self.watch = diagnosis.Watch(lab, names)

    def conduct(self) -> Result:
        """All runs. What is known when the time is over is what is said."""
        lab, result = self.lab, self.result
        lab.expected, lab.stage = 4 * self.steps, "rates as configured and lower"
        try:
            if not math.isfinite(lab.start(self.steps)):
                return self._broken_start()
            result.metric = lab.metric_at_start()
            self._judge()
        except BudgetSpent:
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
        if any(outcome.ended == "memory" for outcome in lab.runs):
            result.reason = MEMORY
            return
        result.extent = self._extent()
        kept = lab.ramp > 0 and not self.ladder.decays
        adviser = Adviser(lab, judged, self.steps, self.promises(), kept)
        result.tail = adviser.quiet_tail()
        if judged.baseline.failed and judged.best_run is None:
            self._nothing_holds(adviser)
        elif judged.too_high:
            self._sick(adviser)
        elif judged.no_progress:
            self._stalled(adviser)
        else:
            self._stable(adviser)
        result.extent = self._extent()
        self._ask_the_metric()

    def _extent(self) -> ProbeExtent:
        """How much of the loss and of the run was seen."""
        judged, lab = self.result.judged, self.lab
        assert judged is not None
        runs = [o for o in lab.runs if not o.failed and o.losses and lab.of_the_target(o)]
        gained = [(start - o.level()) / abs(start) for o in runs if abs(start := self._start_of(o)) > TINY]
        steps = max((len(o.losses) for o in runs), default=judged.length)
        total = None if self.terms.length is None else self.terms.length.total
        return ProbeExtent(steps, max([*gained, 0.0]), total)

    def _start_of(self, outcome: TrialRun) -> float:
        """The size of the loss before a run, where it was looked at; 0 for a loss that cannot be a measure."""
        start = self.lab.starts.get(len(outcome.losses), self.lab.opening)
        return start if math.isfinite(start) else 0.0

    def _ask_the_metric(self) -> None:
        """Where the target's own metric says otherwise, there is no verdict by the loss."""
        result, judged = self.result, self.result.judged
        if result.metric is None or judged is None or judged.best_run is None or judged.baseline.failed:
            return
        base, best = (self.lab.runs[run.number].metric for run in (judged.baseline, judged.best_run))
        if base is None or best is None or base == best:
            return
        if result.verdict == "unstable" and base <= best:
            said = "the loss says that lower rates are better"
        elif result.verdict == "stable" and base > result.metric and best <= result.metric:
            said = "the loss says that these rates hold"
        else:
            return
        result.verdict = "inconclusive"
        result.reason = (
            f"{said}, the metric does not ({result.metric:.3g} at the start, {base:.3g} after the run as configured, "
            f"{best:.3g} at lower rates): the loss may move with something that is not trained"
        )
        result.guilty, result.course, result.changes = (), "", []

    def _nothing_holds(self, adviser: Adviser) -> None:
        """Every rate breaks: the rate is not the cause."""
        result = self.result
        assert result.judged is not None
        result.verdict, result.score = "unstable", 3.0
        if self._outliers(adviser):
            return
        result.reason = "no rate holds, not even a millionth of these"
        result.non_finite = self._first_failure(result.judged.baseline)
        result.seen = diagnosis.dead_signals(self.lab, self.names)

    def _first_failure(self, outcome: TrialRun) -> NonFinite | None:
        if outcome.ended != "non-finite":
            return None
        return diagnosis.find(self.lab, self.names, outcome)

    def _sick(self, adviser: Adviser) -> None:
        lab, result = self.lab, self.result
        assert result.judged is not None
        result.verdict = "unstable"
        if result.judged.no_progress:
            steps = result.judged.length
            result.reason = (
                f"no rate makes measurable progress in {steps} steps: what repairs it is only seen to do no harm"
            )
        lab.expected, lab.stage = lab.steps + 7 * self.steps, "looking for the groups to blame"
        if self._outliers(adviser):
            return
        attribution = Attribution(lab, result.judged, result.judged.steps_to_tell, adviser.promises)
        self._blame(attribution, adviser)
        light = result.tail is not None and not result.tail.heavy
        if not self.clipped and light and result.tail is not None and set(self.terms.families) <= _CLIPPABLE:
            change, _ = adviser.clip(result.tail)
            result.changes.append(change)
        self._refine(adviser)

    def _refine(self, adviser: Adviser) -> None:
        """The headroom of every group with the cure in place; where the cure lowers several groups, each by its own factor."""
        result, lab = self.result, self.lab
        cure = next((c for c in result.changes if c.kind == "lr" and c.verified), None)
        if cure is None:
            return
        exponents = [math.log10(factor) for factor in cure.all_factors(lab.count)]
        if not self._map(exponents, adviser.promises):
            return
        (first, *more) = cure.groups
        own_room = next((room for room in result.rooms if room.group == first and room.runs), None)
        if not more and own_room is not None and cure.largest is not None:
            largest = min(cure.largest, 10.0**own_room.largest)
            result.changes[result.changes.index(cure)] = replace(cure, largest=largest)
        if len(cure.groups) > 1 and all(room.runs for room in result.rooms):
            own = adviser.each_its_own(cure, {room.group: room.largest for room in result.rooms})
            if own is not None:
                result.changes[result.changes.index(cure)] = replace(own, reason=cure.reason)

    def _map(self, base: Sequence[float], promises: Sequence[float]) -> bool:
        """Look for the headroom above these exponents; whether it was."""
        lab, result = self.lab, self.result
        if not self.terms.headroom:
            return False
        lab.expected, lab.stage = lab.steps + 2 * self.steps * min(lab.count, 4), "headroom of each group"
        result.rooms = HeadroomSearch(lab, self.bench, base, self.steps).rooms(promises)
        return True

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
            result.changes.append(replace(other, reason=adviser.why_all(change, other)))
        result.changes.append(change)

    def _sets(self, attribution: Attribution) -> Iterator[GroupReduction]:
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
        trace = self.lab.trace(self.result.judged.baseline)
        slopes = [(trace.slope.get(key) or [0.0])[0] for key in self.lab.keys]
        return [max(-slope, 0.0) if math.isfinite(slope) else math.inf for slope in slopes]

    def _stalled(self, adviser: Adviser) -> None:
        """Can one batch be learnt by heart, at any rate? A model that cannot do that does not learn."""
        lab, result = self.lab, self.result
        if self._outliers(adviser):
            result.verdict, result.course, result.score = "unstable", "degraded", max(result.score, STUCK)
            return
        if abs(lab.opening) >= _LEARNT and self._too_low():
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
            result.seen = diagnosis.dead_signals(lab, self.names)
            return
        times = f"{10.0**exponent:g} times the rates" if exponent else "these rates"
        if exponent > NEEDS:
            result.verdict, result.course, result.score = "stalled", "stalls", max(result.score, STUCK)
            result.reason = f"a repeated batch is not learnt at 100 times the rates, but at {times}: they are too low"
            return
        result.verdict, result.course = "inconclusive", "learns"
        result.reason = f"no measurable progress in {self.steps} steps; {times} learn a repeated batch"

    def _stable(self, adviser: Adviser) -> None:
        lab, result = self.lab, self.result
        assert result.judged is not None
        result.verdict = "stable"
        self._clip(adviser)
        if result.judged.healed:
            result.reason = "what the peak rates spoil is made good when the schedule lets them fall"
        elif result.judged.rose_far and not (result.tail is not None and result.tail.heavy):
            start, top = result.judged.opening, max(result.judged.baseline.losses)
            result.reason = f"the loss leapt from {start:.3g} to {top:.3g}, and came back"
        steps = round(STRESSED * self.steps)
        base, level = result.judged.baseline.level(steps), self.ladder.stress().level()
        allowed = base + 0.3 * max(lab.opening - base, 0.0) + FLOOR * abs(lab.opening)
        result.margin = float(f"{10.0**STRESS:.2g}") if level <= allowed else 1.0
        usual = result.reason
        self._say_what_was_seen(usual)
        if not self._too_low():
            self._look_further()
            self._say_what_was_seen(usual)
            if self.terms.thorough and result.verdict in ("stable", "inconclusive"):
                self._other_seeds(adviser)
        self._map([0.0] * lab.count, adviser.promises)

    def _say_what_was_seen(self, usual: str) -> None:
        """Stable, unless too little was seen for that, or nothing real."""
        result = self.result
        extent = result.extent = self._extent()
        result.verdict, result.reason = "stable", usual
        if abs(self.lab.opening) < _LEARNT:
            return
        if self.terms.weak:
            result.verdict = "inconclusive"
            result.reason = "nothing fails on batches or a loss that are made up; real ones may differ"
        elif extent.share < SAW:
            result.verdict = "inconclusive"
            result.reason = (
                f"nothing fails in {extent.steps} steps, but the best run took only {extent.share:.1%} off the loss: "
                "too little to tell sound rates from dead ones"
            )

    def _look_further(self) -> None:
        """The run as configured goes on until it has seen enough of the loss."""
        lab, judged = self.lab, self.result.judged
        assert judged is not None
        run, longest = judged.baseline, LOOKS * self.steps
        if self.terms.thorough:
            longest = max(THOROUGH, longest)
        while not run.failed and len(run.losses) < longest:
            if self._extent().share >= SAW and not self.terms.thorough:
                return
            steps = min(len(run.losses) + self.steps, longest)
            lab.start(steps)
            run = judged.baseline = lab.extend(run, steps)
        if run.failed:
            self._late(f"the run as configured fails after {len(run.losses)} steps")

    def _late(self, how: str) -> None:
        """What the search did not see: the rates are at fault, and no lower ones were tried for as long."""
        result = self.result
        result.notes.append(how)
        result.margin = 1.0

    def _other_seeds(self, adviser: Adviser) -> None:
        """The run as configured with other random numbers and batches in another order: near the edge seeds disagree."""
        lab, length = self.lab, 2 * self.steps
        lab.stage = "other seeds"
        runs = [lab.run([1.0] * lab.count, length, seed=seed, fresh=True) for seed in range(1, SEEDS + 1)]
        start = lab.start(length)
        failed = [run for run in runs if run.failed or run.level() > start + FLOOR * abs(start)]
        if failed:
            self._late(f"{len(failed)} of {SEEDS} further seeds fail at these rates")
            self.result.verdict = "inconclusive"
            self.result.reason = f"the rates hold with one seed and fail with {len(failed)} of {SEEDS} others"

    def _too_low(self) -> bool:
        """Whether all rates, or those of one group, are too low for the run."""
        lab, result, terms = self.lab, self.result, self.terms
        judged = result.judged
        if terms.length is None or terms.weak or judged is None or judged.baseline.failed:
            return False
        lab.expected, lab.stage = lab.steps + 7 * self.steps, "higher rates"
        base = replace(judged.baseline, losses=judged.baseline.losses[: self.steps])
        opening = lab.start(self.steps)
        search = LowRateSearch(self.bench, lab.count, self.steps, terms.length, self._pace(judged.baseline))
        sure = opening - base.level() - 2 * lab.noise(base)
        common = Low("fine") if search.enough(sure, 0.9 * self.steps, opening) else search.common()
        result.low.append(common)
        if common.verdict != "too-low" and lab.count > 1:
            slow, fastest = self._slow_groups(judged.baseline)
            if slow:
                others = STRESS if (result.margin or 1.0) > 1 else 0.0
                result.low.append(search.single(slow, fastest, others))
        found = result.low[-1]
        if found.verdict != "too-low":
            return False
        result.verdict, result.course, result.reason = "too-low", "learns", ""
        evidence = () if found.run is None else (found.run,)
        result.changes.append(Change("lr", found.groups, 10.0**found.exponent, verified=True, evidence=evidence))
        return True

    def _pace(self, base: TrialRun) -> float:
        """The length of the run's last updates over the mean of all."""
        trace = self.lab.trace(base)
        sizes = [
            math.sqrt(sum(u * u for u in sizes))
            for sizes in zip(*(trace.update[key][: self.steps] for key in trace.update), strict=False)
        ]
        total = sum(sizes)
        return len(sizes) * (sum(sizes[-3:]) / 3) / total if len(sizes) >= 3 and total > 0 else 1.0

    def _slow_groups(self, base: TrialRun) -> tuple[list[int], float]:
        """Groups that change far less than the fastest, or grow from zero, by what raising them promises; and the
        exponent at which the first would change as fast.
        """
        trace, ratios, zero, moves = self.lab.trace(base), {}, set(), {}
        for position, key in enumerate(self.lab.keys):
            update, weight = trace.update.get(key, []), trace.weight.get(key, [])
            pairs = [(u, w) for u, w in zip(update, weight, strict=False) if math.isfinite(u + w) and u > 0]
            if not pairs or self.lab.rates[key] <= 0:
                continue
            if pairs[0][1] < SINGLE.from_zero * max(u for u, _ in pairs):
                zero.add(position)
            ratios[position] = median(u / w if w > 0 else math.inf for u, w in pairs)
            moves[position] = median(u for u, _ in pairs) / math.sqrt(max(self.lab.elements(key), 1))
        # What starts at zero has no size to be compared with: its elements move as far less as others' would have to.
        furthest = max((m for g, m in moves.items() if g not in zero), default=0.0)
        fastest = max((r for g, r in ratios.items() if g not in zero), default=0.0)
        slow = [
            g
            for g, r in ratios.items()
            if (furthest >= SINGLE.behind * moves[g] if g in zero else r > 0 and fastest / r >= SINGLE.behind)
        ]
        promises = self.promises()
        far = {g: LOW.top if g in zero else math.log10(fastest / ratios[g]) for g in slow}
        slow.sort(key=lambda g: -(promises[g] * 10.0 ** far[g]))
        return slow, far[slow[0]] if slow else 0.0
