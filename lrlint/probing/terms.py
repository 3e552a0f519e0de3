"""What an experiment is conducted under, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrlint.facts.probe import GradientTail, NonFinite, ProbeExtent
from lrlint.probing.search.advice import Change
from lrlint.probing.search.headroom import GroupHeadroom
from lrlint.probing.search.low_rate import Length, Low
from lrlint.probing.search.rate_ladder import Diagnosis


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


def heed_the_metric(result: Result, metrics: Sequence[float | None]) -> None:
    """Where the target's own metric says otherwise, there is no verdict by the loss. ``metrics``: of all runs, in order."""
    judged = result.judged
    if result.metric is None or judged is None or judged.best_run is None or judged.baseline.failed:
        return
    configured, lower = metrics[judged.baseline.number], metrics[judged.best_run.number]
    if configured is None or lower is None or configured == lower:
        return
    if result.verdict == "unstable" and configured <= lower:
        claim = "the loss says that lower rates are better"
    elif result.verdict == "stable" and configured > result.metric and lower <= result.metric:
        claim = "the loss says that these rates hold"
    else:
        return
    result.verdict = "inconclusive"
    result.reason = (
        f"{claim}, the metric does not ({result.metric:.3g} at the start, {configured:.3g} after the run as configured, "
        f"{lower:.3g} at lower rates): the loss may move with something that is not trained"
    )
    result.guilty, result.course, result.changes = (), "", []
