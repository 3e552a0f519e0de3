"""One run of the search and its level, the robust mean of its last losses. Torch-free: a `RunFactory` takes the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from lrlint.probing.search.thresholds import THRESHOLDS

#: No loss is told from zero below this.
TINY = 1e-12


@dataclass(frozen=True)
class TrialRun:
    """One training run of a few steps. ``losses`` and ``norms`` (of the whole gradient) are by step.

    ``cooled_from``: the step from which on all rates were multiplied by ``THRESHOLDS.cooldown_factor``; 0 for never.
    ``ended``: why it did; ``full`` and ``given up`` are the ends of runs that were as they should be.
    """

    factors: tuple[float, ...]
    losses: tuple[float, ...]
    norms: tuple[float, ...] = ()
    clip: float | None = None
    seed: int = 0
    fresh: bool = False
    cooled_from: int = 0
    ended: str = "full"
    number: int = -1  # of the run, in order
    metric: float | None = None  # the target's own, at its end; lower is better

    @property
    def failed(self) -> bool:
        return self.ended not in ("full", "given up")

    def level(self, length: int | None = None) -> float:
        """`typical` closing loss of the first ``length`` steps; infinite for a run that broke before."""
        losses = self.losses if length is None else self.losses[:length]
        if self.failed and len(losses) == len(self.losses):
            return math.inf
        return closing_level(losses)


def exploded(losses: Sequence[float], patient: bool = False) -> bool:
    """Whether a run is beyond repair: far above its start, for so long that a spike would have healed.

    A single loss says nothing, its batch may be an outlier. Healthy runs were seen to stay at ten times their initial
    loss for a while and come back (Adagrad's first steps, a residual network under Adam): the run as configured is
    given more ``patience``.
    """
    if len(losses) <= THRESHOLDS.beyond_repair_steps:
        return False
    start = max(abs(losses[0]), TINY)
    far = min(losses[-THRESHOLDS.beyond_repair_steps :])
    if patient:
        return far > THRESHOLDS.beyond_repair**2 * start
    return far > THRESHOLDS.beyond_repair * start or (
        len(losses) > THRESHOLDS.far_above_start_steps
        and min(losses[-THRESHOLDS.far_above_start_steps :]) > THRESHOLDS.far_above_start * start
    )


def typical(losses: Iterable[float]) -> float:
    """The mean. A loss far above the median counts as three times that: its batch may be an outlier."""
    values = sorted(losses)
    if not values:
        return math.inf
    middle = median(values)
    return sum(min(loss, middle + 2 * abs(middle)) for loss in values) / len(values)


def closing_level(losses: Sequence[float]) -> float:
    """`typical` loss of the last steps; infinite for none."""
    return typical(losses[-closing(len(losses)) :])


def relative_shortfall(level: float, best: float, opening: float) -> float:
    """(level − best) / (opening − best): 0 as good as the best run, 1 no progress, above 1 worse than the start.

    Levels are robust means of a run's last losses (`closing_level`).
    """
    return (level - best) / max(opening - best, THRESHOLDS.least_difference * abs(opening), TINY)


def hopeless(limits: Mapping[int, float], best: TrialRun, opening: float) -> Callable[[Sequence[float]], bool]:
    """Called with a run's losses so far: whether its `relative_shortfall` is above the limit for so many steps, if any.

    ``best``: the run it is compared with, at least as long as the steps that have a limit.
    """

    def is_hopeless(losses: Sequence[float]) -> bool:
        steps = len(losses)
        return steps in limits and relative_shortfall(closing_level(losses), best.level(steps), opening) > limits[steps]

    return is_hopeless


def closing(steps: int) -> int:
    """How many steps at the end of a run its level is taken over."""
    return max(1, min(6, steps // 5))


class RunFactory(Protocol):
    """Makes runs of one setup, each from the setup's own state. ``count``: groups that have a rate."""

    count: int

    def start(self, steps: int) -> float:
        """The loss without any step, over the batches that a run of so many steps closes with."""

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
        """``hopeless``, asked after each step with the losses so far, may give the run up."""

    def noise(self, outcome: TrialRun) -> float:
        """The standard error, over its closing batches, of what the run takes off the loss."""

    def extend(self, outcome: TrialRun, steps: int) -> TrialRun:
        """The same run with more steps, ``steps`` in all."""

    def cool(self, outcome: TrialRun, steps: int) -> TrialRun:
        """Another run that goes on from this one's end, at ``cooldown_factor`` times its rates, to so many steps in all."""
