"""One run, and its level: what its last losses amount to. Nothing here imports torch: a `RunFactory` does the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

#: No loss is told from zero below this.
TINY = 1e-12
#: What is less than this share of the initial loss is no difference.
FLOOR = 0.02
#: Losses so many times the first are beyond repair, ``BRIEF`` in a row; so are ``SPIKE`` above ten times the first.
BEYOND, BRIEF, SPIKE = 1e3, 3, 5
#: The factor on all rates at the end of a run that is to show whether damage lasts.
COOL = 0.1


@dataclass(frozen=True)
class TrialRun:
    """One run. ``losses`` are its losses by step, ``norms`` the norms of the whole gradient.

    ``cooled_from``: the step from which on all rates were multiplied by `COOL`; 0 for never. ``ended``: why it did; ``full`` and
    ``given up`` are the ends of runs that were as they should be.
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
    if len(losses) <= BRIEF:
        return False
    start = max(abs(losses[0]), TINY)
    far = min(losses[-BRIEF:])
    if patient:
        return far > BEYOND**2 * start
    return far > BEYOND * start or (len(losses) > SPIKE and min(losses[-SPIKE:]) > 10 * start)


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
    """What a run that ends at ``level`` lacks of what the best one takes off the opening loss, as a share of that."""
    return (level - best) / max(opening - best, FLOOR * abs(opening), TINY)


def hopeless(limits: Mapping[int, float], best: TrialRun, opening: float) -> Callable[[Sequence[float]], bool]:
    """Asked with a run's losses so far: whether its `relative_shortfall` are above the limit for so many steps, if there is one.

    ``best``: the run it is compared with, at least as long as the steps that have a limit.
    """

    def asked(losses: Sequence[float]) -> bool:
        steps = len(losses)
        return steps in limits and relative_shortfall(closing_level(losses), best.level(steps), opening) > limits[steps]

    return asked


def closing(steps: int) -> int:
    """How many steps at the end of a run its level is taken over."""
    return max(1, min(6, steps // 5))


class RunFactory(Protocol):
    """Runs the setup from its own state. ``count``: groups that have a rate."""

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
        """Another run that goes on from this one's end, at `COOL` times its rates, to so many steps in all."""
