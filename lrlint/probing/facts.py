"""From the runs to `ProbeFacts`: every number rounded to what it is worth, so that a result has the same bytes again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from lrlint.facts import ProbeFacts
from lrlint.facts.probe import Headroom, LowRates, ProbeGroup, ProbeRun, ProbeTrace, Recommendation
from lrlint.probing.experiment import Experiment, Result
from lrlint.probing.laboratory import TrialRunner
from lrlint.probing.search.advice import Change
from lrlint.probing.search.headroom import GroupHeadroom
from lrlint.probing.search.low_rate import Low
from lrlint.probing.search.thresholds import ROOM
from lrlint.probing.search.trial import TrialRun, closing
from lrlint.probing.training.statistics import Key
from lrlint.probing.training.stepper import Trace

_DIGITS = 5


def facts(experiment: Experiment, result: Result, labels: Mapping[Key, str], notes: Sequence[str] = ()) -> ProbeFacts:
    """The facts of a finished experiment."""
    lab = experiment.lab
    plain = [o for o in lab.runs if set(o.factors) == {1.0} and o.clip is None and not (o.fresh or o.cooled_from)]
    trace = lab.trace(max(plain, key=lambda o: len(o.losses))) if plain else Trace(lab.keys)
    watch = experiment.watch
    return ProbeFacts(
        verdict=result.verdict,
        score=_round(result.score),
        course=result.course,
        reason=result.reason,
        margin=result.margin,
        groups=_groups(lab, result, trace, labels),
        guilty=tuple(lab.keys[g] for g in result.guilty),
        recommendations=tuple(_recommendation(lab, change) for change in _ordered(result.changes)),
        arms=tuple(_arm(lab, outcome) for outcome in lab.runs),
        trace=_trace(lab, trace),
        tail=None
        if result.tail is None
        else replace(
            result.tail,
            median=_round(result.tail.median),
            p90=_round(result.tail.p90),
            largest=_round(result.tail.largest),
            repaired=result.repaired,
        ),
        non_finite=result.non_finite,
        zero_gradient=watch.zero_gradient() if len(lab.batches) >= 3 else (),
        unused=watch.unused(),
        thawed=watch.thawed(),
        clipped=_clipped(lab, trace),
        seen=result.seen,
        steps_run=lab.steps,
        ramp=lab.ramp,
        batches=len(lab.batches),
        cycled=lab.batches.cycled,
        weak=lab.batches.weak,
        device=str(lab.stepper.device),
        snapshot=lab.snapshot.place,
        seed=lab.seed,
        notes=(*notes, *result.notes),
        extent=None if result.extent is None else replace(result.extent, share=_round(result.extent.share)),
        low=tuple(_low(experiment, found) for found in result.low),
        headroom=_headroom(experiment, result, labels),
        metric=None if result.metric is None else _round(result.metric),
    )


def _low(experiment: Experiment, found: Low) -> LowRates:
    length, keys = experiment.terms.length, experiment.lab.keys
    numbers = (found.gain, found.reached, found.ratio)
    gain, reached, ratio = (None if n is None or not math.isfinite(n) else _round(n) for n in numbers)
    return LowRates(
        verdict=found.verdict,
        groups=tuple(keys[g] for g in found.groups),
        factor=_short(10.0**found.exponent) if found.verdict == "too-low" else None,
        gain=gain,
        reached=reached,
        ratio=ratio,
        steps=found.steps,
        stands_for=found.stands_for,
        total=None if length is None else length.total,
        pretrained=_trained([experiment.terms.pretrained.get(g) for g in found.groups]),
        reason=found.reason,
    )


def _trained(known: Sequence[bool | None]) -> bool | None:
    """Whether all are, or none is; None where some of them do not show it."""
    return known[0] if known and len(set(known)) == 1 else None


def _headroom(experiment: Experiment, result: Result, labels: Mapping[Key, str]) -> tuple[Headroom, ...]:
    def row(room: GroupHeadroom) -> Headroom:
        key = experiment.lab.keys[room.group]
        return Headroom(
            optimizer=key[0],
            index=key[1],
            label=labels[key],
            lr=experiment.lab.rates[key],
            largest=_short(10.0**room.largest),
            best=None if room.best is None else _short(10.0**room.best),
            low=_nothing_below(experiment, room.group),
            runs=room.runs,
            verified=room.runs > 0,
            capped=room.capped,
        )

    return tuple(row(room) for room in result.rooms)


def _nothing_below(experiment: Experiment, group: int) -> float | None:
    """The factor at which the group's first step, repeated to the end of the run, promises 2 % of the loss."""
    lab, length = experiment.lab, experiment.terms.length
    promise = experiment.promises()[group] * (lab.ramp or 1)
    if length is None or length.total is None or not 0 < promise < math.inf:
        return None
    return _short(ROOM.nothing * abs(lab.opening) / (promise * length.total * length.mean))


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else value


def _groups(lab: TrialRunner, result: Result, trace: Trace, labels: Mapping[Key, str]) -> tuple[ProbeGroup, ...]:
    slopes = {key: max(-(trace.slope.get(key) or [0.0])[0], 0.0) for key in lab.keys}
    total = sum(value for value in slopes.values() if math.isfinite(value)) or 1.0
    found = []
    own = {room.group: _short(10.0**room.largest) for room in result.rooms if room.runs}
    for position, key in enumerate(lab.keys):
        gradient, update = trace.gradient.get(key, []), trace.update.get(key, [])
        weight, curvature = trace.weight.get(key, []), trace.curvature.get(key, [])
        verdict, factor = _verdict(result, position)
        factor = own.get(position, factor)
        found.append(
            ProbeGroup(
                optimizer=key[0],
                index=key[1],
                label=labels[key],
                lr=lab.rates[key],
                verdict=verdict,
                factor=factor,
                update_ratio=_median([u / w for u, w in zip(update, weight, strict=False) if w > 0]),
                gradient=_median(gradient),
                weights=_round(weight[0]) if weight else None,
                blame=_round(slopes[key] / total),
                curvature=_round(curvature[0]) if curvature else None,
                moved=not update or any(value > 0 or math.isnan(value) for value in update),
                pushed=lab.rates[key] > 0 and len(gradient) > 1 and _median(gradient) not in (None, 0.0),
            )
        )
    return tuple(found)


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return _round(median(finite)) if finite else None


def _verdict(result: Result, position: int) -> tuple[str, float | None]:
    if any(low.verdict == "too-low" and position in low.groups for low in result.low):
        return "too-low", None
    if position in result.guilty:
        rate = next((c for c in _ordered(result.changes) if c.kind == "lr" and position in c.groups), None)
        top = rate.largest if rate is not None else None
        return ("diverges" if result.course == "diverges" else "degraded"), None if top is None else _short(top)
    if result.verdict in ("stable", "too-low"):
        return "stable", None
    if result.verdict == "stalled":
        return "stalls", None
    return ("stable" if result.guilty else "unknown"), None


def _short(value: float) -> float:
    return float(f"{value:.2g}")


def _ordered(changes: Sequence[Change]) -> list[Change]:
    """What held first; a lower rate before clipping unless the tail called for clipping (that is tried first)."""
    return sorted(changes, key=lambda change: not change.verified)


def _recommendation(lab: TrialRunner, change: Change) -> Recommendation:
    keys = tuple(lab.keys[g] for g in change.groups)
    rates: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()
    if change.kind == "lr":
        every = change.all_factors(lab.count)
        factors = tuple(_short(every[g]) for g in change.groups)
        rates = tuple(_short(lab.rates[key] * every[g]) for key, g in zip(keys, change.groups, strict=True))
    return Recommendation(
        kind=change.kind,
        groups=keys,
        factor=None if change.factor is None else _short(change.factor),
        value=change.value,
        largest=None if change.largest is None else _short(change.largest),
        rates=rates,
        verified=change.verified,
        evidence=tuple(_arm(lab, outcome) for outcome in change.evidence),
        reason=change.reason,
        factors=factors,
    )


def _arm(lab: TrialRunner, outcome: TrialRun) -> ProbeRun:
    losses = outcome.losses
    last = outcome.level(len(losses) + 1) if not outcome.failed else (losses[-1] if losses else math.nan)
    return ProbeRun(
        changes=tuple(
            (*key, _short(factor)) for key, factor in zip(lab.keys, outcome.factors, strict=True) if factor != 1.0
        ),
        clip=outcome.clip,
        seed=outcome.seed,
        steps=len(losses),
        first=_round(_first(lab, outcome)),
        last=_round(last),
        ended=outcome.ended,
        fresh=outcome.fresh,
        cooled=outcome.cooled_from,
        metric=None if outcome.metric is None else _round(outcome.metric),
    )


def _first(lab: TrialRunner, outcome: TrialRun) -> float:
    """The loss before the run; on one repeated batch the first of its own."""
    if outcome.fresh and not outcome.seed and outcome.losses:
        return outcome.losses[0]
    return lab.starts.get(len(outcome.losses), lab.opening)


def _trace(lab: TrialRunner, trace: Trace) -> ProbeTrace:
    def ratios(key: Key) -> tuple[float, ...]:
        pairs = zip(trace.update.get(key, []), trace.weight.get(key, []), strict=False)
        return tuple(_round(u / w) if w > 0 else 0.0 for u, w in pairs)

    return ProbeTrace(
        tuple(map(_round, trace.loss)),
        tuple(ratios(key) for key in lab.keys),
        tuple(map(_round, trace.norm)),
        {name: tuple(map(_round, values)) for name, values in trace.terms.items()},
    )


def _clipped(lab: TrialRunner, trace: Trace) -> tuple[float, float] | None:
    """(share of the steps in which the declared clipping was active, median excess), the first steps left out."""
    limit = lab.stepper.training.clip_norm
    norms = [value for value in trace.norm[5:] if math.isfinite(value)]
    if not limit or len(norms) < closing(90):
        return None
    return _round(sum(value > limit for value in norms) / len(norms)), _round(median(norms) / limit)
