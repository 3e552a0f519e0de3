"""One setup under the probe, and the table over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from tabulate import tabulate

import lrlint
from benchmarks.probe.nets import loss
from benchmarks.probe.setups import STEPS, Spec, build
from benchmarks.probe.truth import HEALTHY, Truth, scaled

#: Labels of setups whose rates are too high for good.
SICK = ("diverged", "stuck")


@dataclass
class Row:
    """What was true and what was said. ``named`` and ``culprits`` count groups through all optimizers."""

    name: str
    label: str
    progress: float
    culprits: tuple[int, ...]
    groups: int
    verdict: str
    score: float
    named: tuple[int, ...]
    steps: int
    cure: str = ""
    verified: bool = False
    repaired: float | None = None  # progress of a long run with the first recommendation
    room: float | None = None  # decades between the recommended rate and the largest healthy one
    exact: float | None = None  # progress with the named set alone at its best
    clip_error: float | None = None  # relative distance of the clip value from the percentile it stands for
    reason: str = ""

    @property
    def unstable(self) -> bool:
        return self.verdict == "unstable"

    @property
    def wrong(self) -> bool:
        if self.label in ("healthy", "slow"):
            return self.unstable or (self.verdict == "too-low") != (self.label == "slow")
        return not self.unstable or (self.repaired or 0) < HEALTHY or (self.single and self.named != self.culprits)

    @property
    def single(self) -> bool:
        """One group is responsible, and it is not the only one there is."""
        return len(self.culprits) == 1 < self.groups


def evaluate(spec: Spec, truth: dict[str, Any], device: str | None = None) -> Row:
    setup = build(spec)
    found = lrlint.probe(
        setup.model,
        setup.optimizers,
        scheduler=[s for s in setup.schedulers if s is not None] or None,
        batches=[spec.data.batch(k) for k in range(100)],
        loss_fn=loss,
        total_steps=STEPS,
        device=device,
    )
    place = {key: index for index, key in enumerate(setup.groups)}
    row = Row(
        spec.name,
        truth["label"],
        float(truth["progress"]),
        tuple(truth["culprits"]),
        len(place),
        found.verdict,
        found.score,
        tuple(sorted(place[key] for key in found.guilty)),
        found.steps_run,
        reason=found.facts.reason,
    )
    if row.label == "outliers" or (row.unstable and row.label in (*SICK, "degraded")):
        _follow(row, found, Truth(spec), truth["reference"], list(spec.rates), place)
    return row


def _follow(row: Row, found: Any, truth: Truth, reference: float, rates: list[float], place: dict[Any, int]) -> None:
    """Long runs with what was recommended."""
    cure = found.recommendations[0] if found.recommendations else None
    if row.named:
        tries = (-0.5, -1.0, -1.5, -2.0, -3.0, -4.0)
        row.exact = max(truth.progress(scaled(rates, e, row.named), reference) for e in tries)
    if cure is None:
        return
    row.verified = cure.verified
    row.cure = f"{cure.kind} {' '.join(f'{factor:g}' for factor in cure.factors) or format(cure.value, 'g')}"
    if cure.kind == "clip":
        row.repaired = truth.progress(rates, reference, cure.value)
        middle, p90 = truth.norms(rates)
        row.clip_error = min(abs(cure.value / value - 1) for value in (middle, p90))
        return
    chosen = [place[key] for key in cure.groups]
    cured = list(rates)
    for g, factor in zip(chosen, cure.factors, strict=True):
        cured[g] *= factor
    row.repaired = truth.progress(cured, reference)
    if row.exact is not None and set(chosen) == set(row.named):
        row.exact = max(row.exact, row.repaired)
    row.room = 0.0
    for up in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0):
        higher = scaled(cured, up, chosen)
        if any(h > r * 1.0001 for h, r in zip(higher, rates, strict=True)) or (
            truth.progress(higher, reference) < HEALTHY
        ):
            break
        row.room = up


def auroc(sick: Sequence[float], healthy: Sequence[float]) -> float:
    """Probability that a sick setup scores above a healthy one."""
    pairs = [(a > b) + 0.5 * (a == b) for a in sick for b in healthy]
    return fmean(pairs) if pairs else math.nan


def table(rows: Sequence[Row], verbose: bool) -> str:
    def of(*labels: str) -> list[Row]:
        return [row for row in rows if row.label in labels]

    healthy, sick, degraded, slow = of("healthy"), of(*SICK), of("degraded"), of("slow")
    sound = [row for row in healthy if row.progress > 0.95]
    outliers, single = of("outliers"), [row for row in of(*SICK, "degraded") if row.single and row.unstable]
    raised = [row for row in single if " one: " in row.name]
    several = [r for r in sick if r.unstable and not r.single and r.exact is not None and r.groups > 1]
    rates = [r for r in [*sick, *degraded] if r.unstable and r.cure.startswith("lr") and r.verified]
    clips = [r for r in rows if r.cure.startswith("clip") and r.verified]
    asked = [r for r in [*sick, *degraded, *outliers] if r.unstable]
    lines = [
        ["healthy setups", len(healthy), ""],
        ["diverged or stuck", len(sick), ""],
        ["degraded · too slow · outliers", f"{len(degraded)} · {len(slow)} · {len(outliers)}", ""],
        [
            "AUROC, diverged or stuck against healthy",
            len(sick) + len(healthy),
            f"{auroc([r.score for r in sick], [r.score for r in healthy]):.3f}",
        ],
        ["healthy called unstable", len(healthy), _share(healthy, lambda r: r.unstable)],
        ["of those with progress above 0.95", len(sound), _share(sound, lambda r: r.unstable)],
        ["diverged or stuck found", len(sick), _share(sick, lambda r: r.unstable)],
        ["degraded found", len(degraded), _share(degraded, lambda r: r.unstable)],
        ["too slow called unstable", len(slow), _share(slow, lambda r: r.unstable)],
        ["all rates too low: found", len(slow), _share(slow, lambda r: r.verdict == "too-low")],
        ["healthy called too low", len(healthy), _share(healthy, lambda r: r.verdict == "too-low")],
        ["healthy, too little seen to say so", len(healthy), _share(healthy, lambda r: r.verdict == "inconclusive")],
        [
            "outliers found: clipping verified",
            len(outliers),
            _share(outliers, lambda r: r.verified and r.cure.startswith("clip")),
        ],
        ["one group suffices: named alone", len(single), _share(single, lambda r: r.named == r.culprits)],
        ["of those with one rate raised", len(raised), _share(raised, lambda r: r.named == r.culprits)],
        ["one group suffices: named, alone or not", len(single), _share(single, lambda r: {*r.culprits} <= {*r.named})],
        ["no single one: the named set repairs", len(several), _share(several, lambda r: (r.exact or 0) >= HEALTHY)],
        ["a recommendation was verified", len(asked), _share(asked, lambda r: r.verified)],
        ["verified rate healthy after 300 steps", len(rates), _share(rates, lambda r: (r.repaired or 0) >= HEALTHY)],
        ["… and at 0.95 of the best run's end", len(rates), _share(rates, lambda r: (r.repaired or 0) >= 0.95)],
        [
            "decades below the largest healthy rate, median",
            len(rates),
            _median([r.room for r in rates if r.room is not None and (r.repaired or 0) >= HEALTHY]),
        ],
        ["verified clip norm repairs", len(clips), _share(clips, lambda r: (r.repaired or 0) >= HEALTHY)],
        ["clip norm's distance from its percentile, median", len(clips), _median([r.clip_error for r in clips])],
        ["steps, healthy: median, largest", len(healthy), _steps(healthy)],
        ["steps, sick: median, largest", len(asked), _steps(asked)],
    ]
    text = tabulate(lines, headers=["", "setups", "measured"], disable_numparse=True)
    if verbose:
        text += "\n\n" + "\n".join(str(row) for row in rows if row.wrong)
    return text


def _share(rows: Sequence[Row], holds: Callable[[Row], bool]) -> str:
    return f"{fmean(map(holds, rows)):.3f}" if rows else "–"


def _median(values: Sequence[Any]) -> str:
    return f"{median(values):.2f}" if values else "–"


def _steps(rows: Sequence[Row]) -> str:
    return f"{median(r.steps for r in rows):.0f}, {max(r.steps for r in rows)}" if rows else "–"
