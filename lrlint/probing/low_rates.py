"""Runs that ask whether rates are too low: of all groups together, then of one group alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from lrlint.probing.laboratory import TrialRunner
from lrlint.probing.search.low_rate import Length, Low, LowRateSearch
from lrlint.probing.search.thresholds import LOW, SINGLE
from lrlint.probing.search.trial import TrialRun
from lrlint.probing.training.measure import Bench


class LowRateRuns:
    """The search for rates that are too low, on a setup whose configured rates hold.

    ``baseline``: the run as configured, which holds; ``steps``: of one run."""

    def __init__(self, lab: TrialRunner, bench: Bench, baseline: TrialRun, steps: int) -> None:
        self.lab, self.bench, self.baseline, self.steps = lab, bench, baseline, steps

    def search(self, length: Length, promises: Sequence[float], holds_at: float) -> list[Low]:
        """What is found about all groups, then (where they are not too low together) about the slowest one.

        ``length``: of the training; ``promises``: the decrease that each group's first step promises; ``holds_at``: the
        exponent of ten on all rates at which the setup is known to hold.
        """
        lab = self.lab
        short = replace(self.baseline, losses=self.baseline.losses[: self.steps])
        opening = lab.start(self.steps)
        search = LowRateSearch(self.bench, lab.count, self.steps, length, self._pace())
        sure = opening - short.level() - 2 * lab.noise(short)
        common = Low("fine") if search.enough(sure, 0.9 * self.steps, opening) else search.common()
        if common.verdict == "too-low" or lab.count == 1:
            return [common]
        slow, fastest = self._slow_groups(promises)
        return [common, *([search.single(slow, fastest, holds_at)] if slow else [])]

    def _pace(self) -> float:
        """The mean length of the baseline's last three updates over the mean of all."""
        trace = self.lab.trace(self.baseline)
        sizes = [
            math.sqrt(sum(u * u for u in sizes))
            for sizes in zip(*(trace.update[key][: self.steps] for key in trace.update), strict=False)
        ]
        total = sum(sizes)
        return len(sizes) * (sum(sizes[-3:]) / 3) / total if len(sizes) >= 3 and total > 0 else 1.0

    def _slow_groups(self, promises: Sequence[float]) -> tuple[list[int], float]:
        """Groups that change far less than the fastest, or grow from zero, by what raising them promises; and the
        exponent at which the first would change as fast.
        """
        trace, ratios, zero, moves = self.lab.trace(self.baseline), {}, set(), {}
        for position, key in enumerate(self.lab.keys):
            update, weight = trace.update.get(key, []), trace.weight.get(key, [])
            pairs = [(u, w) for u, w in zip(update, weight, strict=False) if math.isfinite(u + w) and u > 0]
            if not pairs or self.lab.rates[key] <= 0:
                continue
            if pairs[0][1] < SINGLE.from_zero * max(u for u, _ in pairs):
                zero.add(position)
            ratios[position] = median(u / w if w > 0 else math.inf for u, w in pairs)
            moves[position] = median(u for u, _ in pairs) / math.sqrt(max(self.lab.elements(key), 1))
        # What starts at zero has no size to be compared with: its elements move as far less as others' would have to.
        furthest = max((m for g, m in moves.items() if g not in zero), default=0.0)
        fastest = max((r for g, r in ratios.items() if g not in zero), default=0.0)
        slow = [
            g
            for g, r in ratios.items()
            if (furthest >= SINGLE.behind * moves[g] if g in zero else r > 0 and fastest / r >= SINGLE.behind)
        ]
        far = {g: LOW.top if g in zero else math.log10(fastest / ratios[g]) for g in slow}
        slow.sort(key=lambda g: -(promises[g] * 10.0 ** far[g]))
        return slow, far[slow[0]] if slow else 0.0
