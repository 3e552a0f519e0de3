"""What a few real steps showed: frozen, torch-free, and the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: An optimizer and one of its groups, by index.
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ProbeRun:
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
    metric: float | None = None  # what the target's own metric (lower is better) was at its end

    @property
    def failed(self) -> bool:
        return self.ended not in ("full", "given up")


@dataclass(frozen=True, slots=True)
class ProbeTrace:
    """The run as configured, step by step: its loss, and ‖update‖/‖weights‖ of each group in `ProbeFacts.groups`.

    ``terms``: the parts of the loss by name, where the model or the loss function returns them beside the whole.
    """

    loss: tuple[float, ...] = ()
    ratios: tuple[tuple[float, ...], ...] = ()
    gradient_norm: tuple[float, ...] = ()
    terms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProbeGroup:
    """One parameter group as it ran.

    ``lr`` is the rate it was judged at (the peak of its schedule). ``verdict``: ``diverges``, ``degraded`` (too high,
    yet it learns), ``too-low``, ``stalls``, ``stable`` or ``unknown``. ``factor`` is the largest multiple of its rate that
    held in runs of its own, with the rest of the cure in place (below 1: it has to fall that far; None: not tried).

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

    ``kind`` is ``lr`` (multiply the rates of ``groups`` by ``factors``, one each, which gives ``rates``) or ``clip`` (clip
    the gradient norm of all parameters at ``value``). ``factor`` is their common factor, None where they differ.
    ``verified``: it held when it was run again over fresh batches with other seeds, by more than the noise of the
    batches. ``factor`` is the best that was seen, ``largest`` the largest that held in the search: rates between the two
    can be expected to hold (None where the factors differ, or raise the rates). ``reason``: why groups that are not to
    blame are changed as well, and what else the recommendation rests on.
    """

    kind: str
    groups: tuple[Pair, ...]
    factor: float | None = None
    value: float | None = None
    largest: float | None = None
    rates: tuple[float, ...] = ()
    verified: bool = False
    evidence: tuple[ProbeRun, ...] = ()
    reason: str = ""
    factors: tuple[float, ...] = ()

    @property
    def range(self) -> tuple[float, float] | None:
        """(best, largest that held) as factors; None where only one was tried."""
        if self.factor is None or self.largest is None or self.largest <= self.factor:
            return None
        return self.factor, self.largest

    def to_dict(self) -> dict[str, Any]:
        """Plain data of what is recommended, without the runs."""
        return {
            "kind": self.kind,
            "groups": [list(pair) for pair in self.groups],
            "factor": self.factor,
            "factors": list(self.factors),
            "largest": self.largest,
            "value": self.value,
            "rates": list(self.rates),
            "verified": self.verified,
            "reason": self.reason,
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
class ProbeExtent:
    """How much of the training the probe looked at.

    ``steps``: of the longest run that the verdict rests on. ``share``: what the best run took off the loss, as a share of
    its size at the start. ``total``: optimizer steps of the whole run as declared (from where it is resumed), else None.
    """

    steps: int
    share: float
    total: int | None = None

    @property
    def of_run(self) -> float | None:
        """Steps looked at as a share of the run's; None where its length is not known."""
        return None if not self.total else min(self.steps / self.total, 1.0)


@dataclass(frozen=True, slots=True)
class LowRates:
    """What runs at higher rates say about rates that are too low for the run.

    ``verdict``: ``too-low``, ``cannot-tell`` (no rate learns anything in so few steps: ``reason``) or ``fine``.
    ``groups``: those concerned (all for common factors). ``factor``: the higher multiple of their rates that was verified,
    ``gain`` what ``steps`` steps with it took off the loss, and ``reached`` what the configured rates can be expected to
    take off in ``stands_for`` of their steps (the rest of the run), both as shares of the loss at the start. ``ratio``:
    the one over the other, less two standard errors of the batches. ``total``: steps of the run as declared, or None.
    ``pretrained``: the groups hold trained weights, for which a low rate may be meant, or fresh ones; None where that does
    not show.
    """

    verdict: str
    groups: tuple[Pair, ...] = ()
    factor: float | None = None
    gain: float | None = None
    reached: float | None = None
    ratio: float | None = None
    steps: int = 0
    stands_for: int | None = None
    total: int | None = None
    pretrained: bool | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Headroom:
    """How far the rate of one group can go, with all others as recommended: multiples of ``lr``, its configured peak.

    ``low``: below this the group learns nothing in the whole run (estimated from −g·u of the first step: the decrease
    that it promises over the run is below 2 % of the loss; None where the run's length is not known). ``best``: the
    factor whose run of this group alone ended lowest, ``largest`` the largest that held, to half a decade.
    ``verified``: from ``runs`` of this group alone; otherwise ``largest`` is from losses along its first update, which
    are forward passes alone, and ``best`` is None. ``capped``: nothing higher was tried.
    """

    optimizer: int
    index: int
    label: str
    lr: float
    largest: float
    best: float | None = None
    low: float | None = None
    runs: int = 0
    verified: bool = False
    capped: bool = False

    @property
    def advised(self) -> float:
        """Half a decade below the largest that held, where that is above 1: single groups were seen to be about that
        much too bold in one case of eight."""
        return min(max(self.largest / 10**0.5, 1.0), self.largest)


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """Result of the stability probe.

    ``verdict``: ``stable``, ``unstable``, ``too-low``, ``stalled`` or ``inconclusive`` (``reason`` says why). ``course``
    refines it: ``diverges``, ``degraded``, ``stalls``, ``learns``. ``score`` grows with instability (0: nothing is better
    than the run as configured; 1: it loses everything a lower rate would gain; more: it diverges).
    ``margin``: the factor by which all rates together could grow and the run still held, where that was tried;
    ``headroom`` is that of each group alone. ``extent``: how much of the training was seen. ``low``: what was found about
    rates that are too low, of all groups, and of single ones. ``resumed``: the checkpoint that the runs start from.
    ``metric``: the target's own metric at the start.

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
    arms: tuple[ProbeRun, ...] = ()
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
    extent: ProbeExtent | None = None
    low: tuple[LowRates, ...] = ()
    headroom: tuple[Headroom, ...] = ()
    resumed: str = ""
    metric: float | None = None

    def group(self, pair: Pair) -> ProbeGroup | None:
        """The record of a group."""
        return next((g for g in self.groups if (g.optimizer, g.index) == tuple(pair)), None)

    @property
    def too_low(self) -> tuple[LowRates, ...]:
        """The findings that rates are too low, those that were verified."""
        return tuple(low for low in self.low if low.verdict == "too-low")

    @property
    def best(self) -> Recommendation | None:
        """The first recommendation that held."""
        return next((r for r in self.recommendations if r.verified), None)
