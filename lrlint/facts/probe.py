"""What a few real steps showed: frozen, torch-free, and the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: An optimizer and one of its groups, by index.
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ProbeArm:
    """One run from the setup's own state. Every arm of a seed sees the same batches and the same random numbers.

    ``changes`` are (optimizer, group, factor on its rate) of every group that did not run at its configured rate;
    ``clip`` is the largest gradient norm that was let through. ``first`` and ``last`` are the mean loss over its
    opening and closing steps, ``ended`` says why it stopped: ``full``, ``non-finite``, ``exploded``, ``memory`` or
    ``given up`` (far behind after two thirds of its steps).
    ``fresh``: its batches came in another order than those of the search, or are one batch again and again. ``cooled``:
    from this step on at a tenth of the rates (0: never), to see whether damage lasts.
    """

    changes: tuple[tuple[int, int, float], ...]
    clip: float | None
    seed: int
    steps: int
    first: float
    last: float
    ended: str = "full"
    fresh: bool = False
    cooled: int = 0

    @property
    def broke(self) -> bool:
        return self.ended not in ("full", "given up")


@dataclass(frozen=True, slots=True)
class ProbeTrace:
    """The run as configured, step by step: its loss, and ‖update‖/‖weights‖ of each group in `ProbeFacts.groups`."""

    loss: tuple[float, ...] = ()
    ratios: tuple[tuple[float, ...], ...] = ()
    gradient_norm: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeGroup:
    """One parameter group as it ran.

    ``lr`` is the rate it was judged at (the peak of its schedule). ``verdict``: ``diverges``, ``degraded`` (too high,
    yet it learns), ``stalls``, ``stable`` or ``unknown``. ``factor`` is the largest multiple of its rate that held
    with the rest of the cure in place (below 1: it has to fall that far; None: not tried).

    Statistics of the run as configured: ``update_ratio`` the median of ‖update‖/‖weights‖, ``gradient`` the median
    gradient norm, ``weights`` the norm at the start, ``blame`` the share of −g·u in the first step, ``curvature``
    (g₁ − g₀)·u of the first step. ``moved``: some step changed a weight. ``pushed``: it had a gradient and a rate
    above 0 in some step, so that it should have moved.
    """

    optimizer: int
    index: int
    label: str
    lr: float
    verdict: str = "unknown"
    factor: float | None = None
    update_ratio: float | None = None
    gradient: float | None = None
    weights: float | None = None
    blame: float | None = None
    curvature: float | None = None
    moved: bool = True
    pushed: bool = False

    @property
    def name(self) -> str:
        """How messages call the group."""
        return self.label

    @property
    def margin(self) -> float | None:
        """How many times its rate could grow (below 1: how far it has to fall); None where that was not tried."""
        return self.factor

    @property
    def statistics(self) -> dict[str, float | None]:
        """The statistics of the run as configured, by name."""
        names = ("update_ratio", "gradient", "weights", "blame", "curvature")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One change that repairs the setup, with the runs that say so.

    ``kind`` is ``lr`` (multiply the rates of ``groups`` by ``factor``, which gives ``rates``) or ``clip`` (clip the
    gradient norm of all parameters at ``value``). ``verified``: it held when it was run again over fresh batches with
    other seeds. ``largest``: the largest factor that held in the search; ``factor`` lies at most three quarters of a
    decade below it.
    """

    kind: str
    groups: tuple[Pair, ...]
    factor: float | None = None
    value: float | None = None
    largest: float | None = None
    rates: tuple[float, ...] = ()
    verified: bool = False
    evidence: tuple[ProbeArm, ...] = ()
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data of what is recommended, without the runs."""
        return {
            "kind": self.kind,
            "groups": [list(pair) for pair in self.groups],
            "factor": self.factor,
            "value": self.value,
            "rates": list(self.rates),
            "verified": self.verified,
        }


@dataclass(frozen=True, slots=True)
class GradientTail:
    """Norms of the whole gradient on a quiet run (rates × 0.1): ``count`` of them.

    ``heavy``: the largest is ten times the median or more, and such norms are rare.
    """

    count: int
    median: float
    p90: float
    largest: float
    heavy: bool = False
    outliers: int = 0
    repaired: bool = False  # clipping was run, and the loss became clearly better


@dataclass(frozen=True, slots=True)
class NonFinite:
    """Where NaN or infinity came up first.

    ``step`` counts from 0 of the run as configured. ``place`` is ``input``, ``parameter`` (before any step),
    ``forward`` (``module`` is the first whose output is not finite), ``loss``, ``gradient`` or ``update``.
    ``parameter`` is the first one concerned, ``kind`` says ``nan`` or ``inf``.
    """

    step: int
    place: str
    kind: str = "nan"
    module: str = ""
    module_class: str = ""
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """Result of the stability probe.

    ``verdict``: ``stable``, ``unstable``, ``stalled`` or ``inconclusive`` (``reason`` says why). ``course`` refines it:
    ``diverges``, ``degraded``, ``stalls``, ``learns``. ``score`` grows with instability (0: nothing is better than the
    run as configured; 1: it loses everything a lower rate would gain; more: it diverges).
    ``margin``: the factor by which all rates could grow and the run still held, where that was tried.

    ``guilty`` is the smallest set of groups whose rates have to fall. ``arms`` are all runs in order; ``steps_run``
    is the number of optimizer steps in them together. ``batches`` counts distinct batches, ``cycled``: they were
    repeated, ``weak``: they or the loss were made up, so that the verdict says less. ``ramp`` steps led to the peak
    rate. ``snapshot`` tells where the state was kept. ``undecayed`` and others list canonical parameter names:
    ``zero_gradient`` those whose gradient was exactly zero in every step of at least three distinct batches while
    decay or momentum moved them, ``unused`` those that never got a gradient, ``thawed`` frozen ones that changed.
    ``clipped``: the share of steps in which the declared clipping was active, and the median excess.
    """

    verdict: str
    score: float
    course: str = ""
    reason: str = ""
    margin: float | None = None
    groups: tuple[ProbeGroup, ...] = ()
    guilty: tuple[Pair, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    arms: tuple[ProbeArm, ...] = ()
    trace: ProbeTrace = field(default_factory=ProbeTrace)
    tail: GradientTail | None = None
    non_finite: NonFinite | None = None
    zero_gradient: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    thawed: tuple[str, ...] = ()
    clipped: tuple[float, float] | None = None
    seen: tuple[str, ...] = ()  # what else was noticed where no reduction helps, as phrases
    steps_run: int = 0
    ramp: int = 0
    batches: int = 0
    cycled: bool = False
    weak: bool = False
    device: str = "cpu"
    snapshot: str = ""
    seed: int = 0
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def group(self, pair: Pair) -> ProbeGroup | None:
        """The record of a group."""
        return next((g for g in self.groups if (g.optimizer, g.index) == tuple(pair)), None)

    @property
    def best(self) -> Recommendation | None:
        """The first recommendation that held."""
        return next((r for r in self.recommendations if r.verified), None)
