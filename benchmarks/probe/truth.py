"""What long runs did: the labels.

Progress is (start - end) / (start - reference), by loss on batches that were not trained on; the reference is the best
of the common factors tried. Healthy: 0.8 or more of it. Too high: less, and some reduction repairs; diverged (below
-0.5), stuck (below 0.3) or degraded. A group is culpable if its reduction alone repairs, at two of the factors at
least: a single one may have been lucky.

Where a few batches are outliers, rates and reference are those of the same batches without: what such a setup lacks it
lacks for them, and it is labelled so where clipping at the median or 90th percentile repairs it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.probe.nets import loss
from benchmarks.probe.setups import STEPS, Spec, build, usual

HEALTHY = 0.8
RUNGS = (-0.5, -1.0, -1.5, -2.0, -3.0)


@dataclass
class Truth:
    """Runs of a setup, remembered. ``end`` is a run's closing loss (infinite where it diverged)."""

    spec: Spec
    known: dict[Any, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = self.spec.data
        self.batches = [data.batch(k) for k in range(STEPS)]
        calm = replace(data, outliers=0.0) if data.outliers else data
        self.held = [calm.batch(10**6 + k) for k in range(12)]
        self.start = self._evaluate(build(self.spec).model)

    def end(self, rates: Sequence[float], clip: float | None = None) -> float:
        key = (tuple(rates), clip)
        if key not in self.known:
            self.known[key] = self._run(rates, clip)
        return self.known[key]

    def _run(self, rates: Sequence[float], clip: float | None, norms: list[float] | None = None) -> float:
        """``norms`` takes in the gradient norms; no step is then larger than ten times their median makes it."""
        setup = build(self.spec, rates)
        torch.manual_seed(5)
        first = math.nan
        for k, batch in enumerate(self.batches):
            for optimizer in setup.optimizers:
                optimizer.zero_grad()
            value = loss(setup.model, batch)
            now = value.item()
            first = now if k == 0 else first
            if not math.isfinite(now) or now > 1e8 * (first + 1):
                return math.inf
            value.backward()
            if norms is not None:
                norms.append(
                    nn.utils.clip_grad_norm_(setup.model.parameters(), 10 * median(norms or [math.inf])).item()
                )
            elif clip is not None:
                nn.utils.clip_grad_norm_(setup.model.parameters(), clip)
            for optimizer in setup.optimizers:
                optimizer.step()
            for scheduler in filter(None, setup.schedulers):
                scheduler.step()
        return self._evaluate(setup.model)

    def norms(self, rates: Sequence[float]) -> tuple[float, float]:
        """Median and 90th percentile of the gradient norms on a quiet run: at a tenth of the rates."""
        found: list[float] = []
        self._run(scaled(rates, -1.0), None, found)
        values = sorted(found)
        return values[len(values) // 2], values[math.ceil(0.9 * len(values)) - 1]

    @torch.no_grad()
    def _evaluate(self, model: nn.Module) -> float:
        torch.manual_seed(6)
        end = sum(loss(model, batch).item() for batch in self.held) / len(self.held)
        return end if math.isfinite(end) else math.inf

    def progress(self, rates: Sequence[float], reference: float, clip: float | None = None) -> float:
        end = self.end(rates, clip)
        return (self.start - end) / (self.start - reference) if math.isfinite(end) else -math.inf


def scaled(rates: Sequence[float], exponent: float, chosen: Sequence[int] | None = None) -> list[float]:
    return [r * 10**exponent if chosen is None or i in chosen else r for i, r in enumerate(rates)]


def label(spec: Spec) -> dict[str, Any] | None:
    """The spec's rates by its scenario, and what is true of them; None where no common factor trains it well."""
    truth, base = Truth(spec), usual(spec)
    calm = Truth(replace(spec, scenario="healthy")) if spec.data.outliers else truth
    sweep = {e: calm.end(scaled(base, e)) for e in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0)}
    best = min(sweep, key=lambda e: sweep[e])
    if not sweep[best] < 0.9 * truth.start:
        return None
    holding = [e for e, end in sweep.items() if (truth.start - end) >= 0.9 * (truth.start - sweep[best])]
    rates = _rates(spec, base, best, max(holding))
    reference = sweep[best]
    p = truth.progress(rates, reference)
    found: dict[str, Any] = {
        "seed": spec.seed,
        "rates": rates,
        "start": truth.start,
        "reference": reference,
        "progress": p,
    }
    if p >= HEALTHY:
        return {**found, "label": "healthy", "culprits": []}
    if spec.data.outliers:
        clipped = any(truth.progress(rates, reference, clip) >= HEALTHY for clip in truth.norms(rates))
        return {**found, "label": "outliers", "culprits": []} if clipped else None
    if any(truth.progress(scaled(rates, e), reference) >= HEALTHY for e in RUNGS):
        culprits = [
            g
            for g in range(len(rates))
            if sum(truth.progress(scaled(rates, e, [g]), reference) >= HEALTHY for e in RUNGS) >= 2
        ]
        kind = "diverged" if p < -0.5 else "stuck" if p < 0.3 else "degraded"
        return {**found, "label": kind, "culprits": culprits}
    slow = any(truth.progress(scaled(rates, e), reference) >= HEALTHY for e in (0.5, 1.0, 2.0, 3.0))
    return {**found, "label": "slow", "culprits": []} if slow else None


def _rates(spec: Spec, base: Sequence[float], best: float, edge: float) -> list[float]:
    """Rates by scenario, from the best common factor and the largest that holds."""
    r = random.Random(spec.seed * 31 + 7)
    count = len(base)
    jitter = [10 ** r.uniform(-0.25, 0.15) for _ in range(count)]
    if spec.scenario == "edge":
        return scaled(base, edge)
    if spec.scenario == "low":
        return scaled(base, best - 2.5 - 2 * spec.severity)
    if spec.scenario == "all":
        return scaled(base, best + 0.7 + 2.5 * spec.severity)
    rates = [x * j for x, j in zip(scaled(base, best - 0.1), jitter, strict=True)]
    if spec.scenario in ("one", "two"):
        bad = r.sample(range(count), min(count, 1 if spec.scenario == "one" else 2))
        for g in bad:
            rates[g] = base[g] * 10 ** (best + 1.5 + 2.5 * spec.severity)
    return rates
