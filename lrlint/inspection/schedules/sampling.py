"""Values over a horizon as few points: adaptive evaluation of a formula, and compression of a followed course."""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections.abc import Callable, Iterable, Sequence

from lrlint.facts import Trace
from lrlint.facts.schedule import NEGLIGIBLE_SHARE

Values = tuple[float, ...]

#: Deviation from a straight line, relative to the range of a trace, that is not stored.
TOLERANCE = 1e-3
_REFINE = 1e-3
#: How many columns steer the refinement: groups whose rates are proportional need only one.
_GUIDES = 8


def compress(steps: Sequence[int], values: Sequence[float]) -> Trace:
    """The trace with only the points needed: between them it is a line, within ``TOLERANCE`` of its range.

    A swinging-door pass in linear time; first, last and extreme points are kept, both ends of every jump, and the point
    after the peak from which on less than ``NEGLIGIBLE_SHARE`` of it is left.
    """
    low, high = min(values), max(values)
    slack = TOLERANCE * (high - low)
    if slack == 0:
        ends = (0, len(steps) - 1) if len(steps) > 1 else (0,)
        return Trace(tuple(steps[i] for i in ends), tuple(values[i] for i in ends))
    peak = values.index(high)
    gone = next((index for index in range(peak, len(steps)) if values[index] <= NEGLIGIBLE_SHARE * high), 0)
    marks = {0, len(steps) - 1, values.index(low), peak, gone}
    kept = [0]
    anchor, lower, upper = 0, -math.inf, math.inf
    for index in range(1, len(steps)):
        if not lower <= (values[index] - values[anchor]) / (steps[index] - steps[anchor]) <= upper:
            # A line from the anchor to here would leave a point between them too far off.
            anchor, lower, upper = index - 1, -math.inf, math.inf
            kept.append(anchor)
        if index in marks:
            anchor, lower, upper = index, -math.inf, math.inf
            kept.append(anchor)
        else:
            span = steps[index] - steps[anchor]
            lower = max(lower, (values[index] - slack - values[anchor]) / span)
            upper = min(upper, (values[index] + slack - values[anchor]) / span)
    return Trace(tuple(steps[i] for i in kept), tuple(values[i] for i in kept))


class SampledSchedule:
    """Values at ascending steps: one row per step, a column per recorded option of a group."""

    def __init__(self) -> None:
        self.steps: array[int] = array("q")
        self.rows: list[Values] = []

    def add(self, step: int, values: Values) -> None:
        self.steps.append(step)
        self.rows.append(values)

    def traces(self) -> list[Trace]:
        """A trace per column; columns of equal values share one."""
        known: dict[Values, Trace] = {}
        traces = []
        for column in zip(*self.rows, strict=True):
            if column not in known:
                known[column] = compress(self.steps, column)
            traces.append(known[column])
        return traces


def explore(evaluate: Callable[[int], Values], horizon: int, hints: Iterable[int], budget: int) -> SampledSchedule:
    """Values at chosen steps of ``0 … horizon``: dense where they bend, with extremes and jumps found to the step.

    ``hints`` are steps worth a look; ``budget`` bounds the evaluations. What is narrower than the initial grid, and not
    hinted at, can be missed.
    """
    known: dict[int, Values] = {}

    def value(step: int) -> Values:
        if step not in known:
            known[step] = evaluate(step)
        return known[step]

    grid = sorted({0, horizon, *hints, *_grid(horizon)})
    for step in grid:
        value(step)
    guides = _guides([known[step] for step in grid])
    _bisect(value, known, grid, guides, budget)
    for column in guides:
        _extremes(value, known, column)
    course = SampledSchedule()
    for step in sorted(known):
        course.add(step, known[step])
    return course


def _grid(horizon: int) -> set[int]:
    """Powers of two for what happens early, and an even grid whose spacing is no round number."""
    early = {2**k for k in range(horizon.bit_length())}
    return {step for step in (*early, *(int(k * horizon / 131) for k in range(132))) if step <= horizon}


def _guides(rows: Sequence[Values]) -> list[int]:
    """Columns with a course of their own: one of each set of proportional columns, none of the constant ones."""
    seen: dict[tuple[float, ...], int] = {}
    for column in range(len(rows[0])):
        values = [row[column] for row in rows]
        low, high = min(values), max(values)
        if high > low:
            seen.setdefault(tuple(round((value - low) / (high - low), 6) for value in values), column)
    return list(seen.values())[:_GUIDES]


def _bisect(
    value: Callable[[int], Values], known: dict[int, Values], grid: Sequence[int], guides: Sequence[int], budget: int
) -> None:
    scale = {c: max(row[c] for row in known.values()) - min(row[c] for row in known.values()) for c in guides}
    queue: list[tuple[float, int, int]] = []

    def offer(left: int, right: int) -> None:
        if right - left < 2 or len(known) >= budget:
            return
        middle = (left + right) // 2
        share = (middle - left) / (right - left)
        between, first, last = value(middle), known[left], known[right]
        errors = (abs(between[c] - first[c] - share * (last[c] - first[c])) / scale[c] for c in guides)
        error = max(errors, default=0.0)
        if error > _REFINE:
            heapq.heappush(queue, (-error, left, right))

    for left, right in itertools.pairwise(grid):
        offer(left, right)
    while queue:
        _, left, right = heapq.heappop(queue)
        middle = (left + right) // 2
        offer(left, middle)
        offer(middle, right)


def _extremes(value: Callable[[int], Values], known: dict[int, Values], column: int) -> None:
    """Walk to the exact step of the largest and the smallest value, from the best sample between its neighbours."""
    for sign in (1.0, -1.0):
        steps = sorted(known)
        best = max(range(len(steps)), key=lambda i: sign * known[steps[i]][column])
        left, right = steps[max(best - 1, 0)], steps[min(best + 1, len(steps) - 1)]
        while right - left > 2:
            a, b = left + (right - left) // 3, right - (right - left) // 3
            if sign * value(a)[column] < sign * value(b)[column]:
                left = a
            else:
                right = b
        for step in range(left, right + 1):
            value(step)
