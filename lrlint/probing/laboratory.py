"""Runs from the same state, on the same batches, with the same random numbers: only what is to be compared differs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import stdev
from typing import Any

from lrlint.probing.search.trial import COOL, TrialRun, closing, exploded, typical
from lrlint.probing.training.batches import Batches
from lrlint.probing.training.statistics import Key
from lrlint.probing.training.stepper import DECLARED, Stepper, Trace
from lrlint.targets.preservation.snapshot import Snapshot

#: Called with (steps taken, a guess at how many it will be, what is being run).
Progress = Callable[[int, int, str], None]
#: A forward pass makes up this share of a training step: the backward pass costs twice as much.
FORWARD = 1 / 3
#: Copies of a run's end that are kept, so that it can go on, and the bytes they may take together: beyond that one copy
#: is what is promised, and runs that go on are repeated.
_KEPT, _SMALL = 10, 1 << 28


class BudgetSpent(Exception):
    """The time that was given is over."""


class TrialRunner:
    """A setup on which runs are made; `lrlint.probing.search.rate_ladder.Trial` for the search.

    ``rates``: the peak rate of each (optimizer, group) that has one, in order; ``ramp``: steps that lead to it.
    ``budget``: seconds for everything. ``others`` is what a snapshot keeps beside models and optimizers. Use it inside
    `preserved`, with its ``snapshot``. ``metric``: a number that is lower for better models, taken at the end of every run.
    """

    def __init__(
        self,
        stepper: Stepper,
        snapshot: Snapshot,
        rates: Mapping[Key, float],
        *,
        ramp: int = 0,
        seed: int = 0,
        budget: float | None = None,
        others: Sequence[Any] = (),
        progress: Progress | None = None,
        metric: Callable[[], float] | None = None,
    ) -> None:
        self.stepper, self.snapshot, self.rates = stepper, snapshot, dict(rates)
        self.keys = tuple(self.rates)
        self.count = len(self.keys)
        self.ramp, self.seed = ramp, seed
        self.runs: list[TrialRun] = []
        self.traces: dict[int, Trace] = {}
        self.steps = 0
        self.expected, self.stage = 0, ""  # what progress says: steps to come, and what they are for
        self.watch: Callable[[int], None] | None = None  # called after each step of the next run
        self.batches = stepper.batches
        self._deadline = None if budget is None else time.monotonic() + budget
        self._others, self._progress = others, progress
        self._ends: dict[int, tuple[TrialRun, Snapshot]] = {}
        self._taken: dict[int, Batches] = {}
        self.starts: dict[int, float] = {}
        self._start_losses: dict[int, list[float]] = {}
        self.metric = metric
        self._stands: tuple[int, int] | None = None  # (number, steps) of the run at whose end the setup is just now
        self.short = False  # memory did not suffice for a forward pass
        self._micro = stepper.training.accumulation or 1

    def elements(self, key: Key) -> int:
        """How many elements of the group train."""
        optimizer, group = key
        held = self.stepper.optimizers[optimizer].param_groups[group]["params"]
        return sum(p.numel() for p in held if p.requires_grad)

    def start(self, steps: int) -> float:
        """The loss without any step over the closing batches of a run of so many; NaN where it is not finite."""
        if steps not in self.starts:
            last = closing(steps)
            self.begin()
            losses = self.stepper.look(steps - last, last)
            self.steps += round(len(losses) * FORWARD)
            self.short = self.short or not losses
            self._start_losses[steps] = losses
            finite = bool(losses) and all(map(math.isfinite, losses))
            self.starts[steps] = typical(losses) if finite else self.opening
        return self.starts[steps]

    def noise(self, outcome: TrialRun) -> float:
        """The standard error, over its closing batches, of what a run takes off the loss; infinite where it broke."""
        steps = len(outcome.losses)
        last = closing(steps)
        if outcome.failed or not math.isfinite(self.start(steps)):
            return math.inf
        before, after = self._start_losses[steps], outcome.losses[-last:]
        taken = [b - a for b, a in zip(before, after, strict=False)]
        return stdev(taken) / math.sqrt(len(taken)) if len(taken) > 1 else 0.0

    @property
    def opening(self) -> float:
        """The first start that was measured."""
        return next(iter(self.starts.values()), math.nan)

    def run(
        self,
        factors: Sequence[float],
        steps: int,
        *,
        clip: float | None = None,
        seed: int = 0,
        fresh: bool = False,
        keep: bool = False,
        hopeless: Callable[[Sequence[float]], bool] | None = None,
    ) -> TrialRun:
        """A run from the start, or the one that was made before.

        ``seed`` counts from the probe's own; ``fresh`` takes the batches in another order, but for the closing ones. All
        other runs meet the same batches step by step. So the levels of runs of a length are over the same batches, and
        over none that were trained on before (as long as they last: what all runs end with, they get to know by heart).
        """
        outcome = TrialRun(tuple(factors), (), (), clip, seed, fresh)
        for known in self.runs:
            if replace(known, losses=(), norms=(), ended="full", number=-1, metric=None) != outcome:
                continue
            taken = len(known.losses)
            if taken == steps or (known.failed and (taken < steps or fresh)):
                return known
            if known.ended == "given up" and hopeless is not None:
                return known
            if fresh:  # at another length its batches are others
                continue
            if taken > steps:  # what it did later does not count
                return replace(known, losses=known.losses[:steps], norms=known.norms[:steps], ended="full")
            if known.number in self._ends:
                return self.extend(known, steps)
        self._begin(seed, self._batches(steps, seed if fresh else None))
        return self._go(outcome, Trace(self.stepper.keys), steps, keep, hopeless)

    def run_on(self, batches: Batches, factors: Sequence[float], steps: int) -> TrialRun:
        """A run on other batches."""
        self._begin(0, batches)
        return self._go(TrialRun(tuple(factors), (), fresh=True), Trace(self.stepper.keys), steps, keep=False)

    def extend(self, outcome: TrialRun, steps: int) -> TrialRun:
        """The run with more steps: from where it ended if that was kept, else all over again."""
        if len(outcome.losses) >= steps:
            return outcome
        went_on = len(self.runs[outcome.number].losses) >= steps
        if went_on or outcome.number not in self._ends or outcome.fresh:
            return self.run(outcome.factors, steps, clip=outcome.clip, seed=outcome.seed, fresh=outcome.fresh)
        _, end = self._ends.pop(outcome.number)
        self._begin(outcome.seed, self.batches)
        end.restore()
        end.close()
        return self._go(outcome, self.traces[outcome.number], steps, keep=True)

    def cool(self, outcome: TrialRun, steps: int) -> TrialRun:
        """Another run that goes on from this one's end (or repeats it, if that was not kept) at `COOL` times its rates."""
        cooled = replace(outcome, cooled_from=len(outcome.losses), number=-1)
        self._begin(outcome.seed, self.batches)
        trace = Trace(self.stepper.keys)
        if outcome.number in self._ends:
            self._ends[outcome.number][1].restore()
            trace = copy.deepcopy(self.traces[outcome.number])
        return self._go(cooled, trace, steps, keep=False)

    def stand_at(self, outcome: TrialRun, steps: int) -> None:
        """Put the setup where the run was after so many steps; it is run again where that is not at hand."""
        if self._stands == (outcome.number, steps):
            return
        kept = self._ends.get(outcome.number)
        self._begin(outcome.seed, self._taken[outcome.number])
        if kept is not None and len(kept[0].losses) == steps:
            kept[1].restore()
        else:
            clip = DECLARED if outcome.clip is None else outcome.clip
            self.stepper.run(steps, self.rates_at(outcome.factors, outcome.cooled_from), clip, statistics=False)
            self.steps += steps

    def moved(self) -> None:
        """The setup does not stand at the end of a run any more (a forward pass may change buffers)."""
        self._stands = None

    def replay(self, outcome: TrialRun) -> None:
        """Back to the start, with the batches of a run."""
        self._begin(outcome.seed, self._taken[outcome.number])

    def _batches(self, steps: int, fresh: int | None) -> Batches:
        if fresh is None:
            return self.batches
        return self.batches.fresh(self.seed + fresh, steps * self._micro, closing(steps) * self._micro)

    def close(self) -> None:
        """Release every kept end."""
        for _, end in self._ends.values():
            end.close()
        self._ends.clear()

    def of_the_target(self, outcome: TrialRun) -> bool:
        """Whether a run met the target's batches one after the other (not one of them again and again)."""
        return len(self._taken[outcome.number]) > 1 or len(self.batches) == 1

    def trace(self, outcome: TrialRun) -> Trace:
        """The statistics of a run, step by step."""
        return self.traces[outcome.number]

    def rates_at(self, factors: Sequence[float], cools: int = 0) -> Callable[[int], dict[Key, float]]:
        """Rates by step: the ramp to the peak times each group's factor, and lower from step ``cools`` on."""
        pairs = [(key, self.rates[key] * factor) for key, factor in zip(self.keys, factors, strict=True)]

        def at(step: int) -> dict[Key, float]:
            share = min(1.0, (step + 1) / self.ramp) if self.ramp else 1.0
            share *= COOL if cools and step >= cools else 1.0
            return {key: rate * share for key, rate in pairs}

        return at

    def begin(self) -> None:
        """Back to where the setup stands, with the probe's batches and random numbers."""
        self._begin(0, self.batches)

    def _begin(self, seed: int, batches: Batches) -> None:
        self.snapshot.restore()
        self.moved()
        self.stepper.seed, self.stepper.batches = self.seed + seed, batches
        self.stepper.begin()

    def _go(
        self,
        outcome: TrialRun,
        trace: Trace,
        steps: int,
        keep: bool,
        hopeless: Callable[[Sequence[float]], bool] | None = None,
    ) -> TrialRun:
        start = len(trace)
        clip = DECLARED if outcome.clip is None else outcome.clip
        patient = set(outcome.factors) == {1.0}

        def stop(trace: Trace) -> bool:
            self._tick(trace)
            return exploded(trace.loss, patient) or (hopeless is not None and hopeless(trace.loss))

        rates = self.rates_at(outcome.factors, outcome.cooled_from)
        self.stepper.run(steps - start, rates, clip, start=start, stop=stop, trace=trace)
        self.watch = None
        self.steps += len(trace) - start
        ended = {"non-finite": "non-finite", "memory": "memory"}.get(trace.stopped or "", "full")
        if trace.stopped == "asked":
            ended = "exploded" if exploded(trace.loss, patient) else "given up"
        trace.stopped = None
        number = len(self.runs) if outcome.number < 0 else outcome.number
        found = replace(outcome, losses=tuple(trace.loss), norms=tuple(trace.norm), ended=ended, number=number)
        self.runs[number:] = [found, *self.runs[number + 1 :]]
        self.traces[number], self._taken[number] = trace, self.stepper.batches
        if keep and ended == "full":
            self._keep(found)
        self._stands = (number, len(found.losses))
        return self._measured(found) if self.metric is not None and not found.failed else found

    def _measured(self, outcome: TrialRun) -> TrialRun:
        """The run with the target's own metric at its end."""
        assert self.metric is not None
        found = replace(outcome, metric=self.metric())
        self.runs[outcome.number] = found
        self.moved()
        return found

    def metric_at_start(self) -> float | None:
        """The target's own metric before any step."""
        if self.metric is None:
            return None
        self.begin()
        return self.metric()

    def _tick(self, trace: Trace) -> None:
        if self.watch is not None:
            self.watch(len(trace) - 1)
        if self._progress is not None:
            done = self.steps + len(trace)
            self._progress(done, max(self.expected, done + 1), self.stage)
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise BudgetSpent

    def _keep(self, outcome: TrialRun) -> None:
        """A copy of where the run ended; without room for one it is run again when it has to go on."""
        room = min(_KEPT, _SMALL // max(self.snapshot.nbytes, 1))
        if room < 2:
            return
        if len(self._ends) >= room:
            self._drop()
        with suppress(Exception):
            end = Snapshot.take(self.stepper.models, self.stepper.optimizers, self._others)
            self._ends[outcome.number] = (outcome, end)

    def _drop(self) -> None:
        """Forget the end of the worst run, but not of the one as configured."""
        others = [number for number, (run, _) in self._ends.items() if set(run.factors) != {1.0}]
        worst = max(others or self._ends, key=lambda number: self._ends[number][0].level())
        self._ends.pop(worst)[1].close()
