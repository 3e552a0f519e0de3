"""How far the rate of each group alone can go: losses along its first update, then runs of its own.

Headroom says nothing about rates that are too low: groups that matter little have a thousandfold of it too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrlint.probing.search.low_rate import Measurements, reach
from lrlint.probing.search.thresholds import ROOM
from lrlint.probing.search.trial import RunFactory, TrialRun

_STEP = 0.5  # decades


@dataclass(frozen=True)
class GroupHeadroom:
    """Of one group (by position): exponents of ten on its rate as it was configured.

    ``largest``: that held; ``best``: whose run gained most, None where it got no runs of its own (``runs``).
    ``capped``: nothing above ``largest`` was tried.
    """

    group: int
    largest: float
    best: float | None = None
    runs: int = 0
    capped: bool = False


class HeadroomSearch:
    """``base``: exponents of all groups' rates at which the setup is sound, and from which one group at a time is raised;
    ``steps``: of one run.
    """

    def __init__(self, trial: RunFactory, bench: Measurements, base: Sequence[float], steps: int) -> None:
        self.trial, self.bench, self.base, self.steps = trial, bench, list(base), steps
        self.opening = trial.start(steps)

    def rooms(self, promises: Sequence[float]) -> list[GroupHeadroom]:
        """Of the groups, by what their first steps promise, as many as are looked at."""
        order = sorted(range(len(self.base)), key=lambda g: (-promises[g], g))[: ROOM.most]
        alone = len(self.base) <= ROOM.verified
        found = []
        for group in order:
            largest = self._along(group)
            found.append(self._runs(group, largest) if alone else self._unverified(group, largest))
        return sorted(found, key=lambda room: room.group)

    def _along(self, group: int) -> float:
        """How far the first update does no harm, above ``base``."""
        with self.bench.first_update(self._factors(group, 0.0)) as at:
            return max(reach(at, group, self.opening, ROOM.top), 0.0)

    def _unverified(self, group: int, up: float) -> GroupHeadroom:
        return GroupHeadroom(group, self.base[group] + up, capped=up >= ROOM.top)

    def _factors(self, group: int, up: float) -> list[float]:
        return [10.0 ** (e + up if g == group else e) for g, e in enumerate(self.base)]

    def _runs(self, group: int, along: float) -> GroupHeadroom:
        """From where the first update still does no harm, up while runs hold and down while they do not."""
        sound = self.trial.run(self._factors(group, 0.0), self.steps)
        levels = {0.0: sound.level()}
        lowest = min(sound.level(), self.opening)
        up, good, bad, runs = max(along, _STEP), 0.0, math.inf, 0
        while runs < ROOM.attempts:
            run = self.trial.run(self._factors(group, up), self.steps, hopeless=self._beyond)
            runs += 1
            lowest = min(lowest, run.level() if self._whole(run) else math.inf)
            if self._holds(run, sound.level(), lowest):
                levels[up] = run.level()
                good = max(good, up)
                following = up + _STEP
            else:
                bad = min(bad, up)
                following = up - _STEP
            if following <= good or following >= bad or following > ROOM.top:
                break
            up = following
        return GroupHeadroom(
            group,
            self.base[group] + good,
            self.base[group] + self._best(levels, good),
            runs,
            capped=math.isinf(bad),
        )

    def _best(self, levels: dict[float, float], good: float) -> float:
        """The exponent that gained most; the one it stands at where none is clearly better."""
        held = {up: level for up, level in levels.items() if up <= good}
        best = min(held, key=lambda up: (held[up], up))
        gain = max(self.opening - held[best], 0.0)
        clear = held[0.0] - held[best] > ROOM.better * gain + ROOM.floor * abs(self.opening)
        return best if clear else 0.0

    def _whole(self, run: TrialRun) -> bool:
        return not run.failed and len(run.losses) >= self.steps

    def _holds(self, run: TrialRun, sound: float, lowest: float) -> bool:
        if not self._whole(run):
            return False
        gain = max(self.opening - lowest, 0.0)
        return run.level() <= sound + ROOM.share * gain + ROOM.floor * abs(self.opening)

    def _beyond(self, losses: Sequence[float]) -> bool:
        """Half way, clearly above the start: it will not hold."""
        return len(losses) == self.steps // 2 and min(losses[-3:]) > 1.5 * abs(self.opening)
