"""The course of a schedule as a small plot in a terminal: every group's rate over the run, on one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from lrlint.facts import GroupSchedule, Schedule, Trace
from lrlint.reports.style import clean, wrap
from lrlint.text.wording import listing, number, rate

#: Groups whose peaks (or values that are shown whole) are further apart than this are drawn on a logarithmic axis.
_LINEAR = 20.0
#: A logarithmic axis reaches this far below the slowest group's peak; what is lower (a rate of 0) lies on its floor.
_BELOW = 1e-2
_NARROW = 20
#: More courses than this are told by the slowest and the fastest.
_COURSES = 8

#: Bits of a braille character by (column, row from the top), as Unicode numbers its dots.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800

Points = list[tuple[float, float]]  # (low, high) between 0 and 1 for each column: a jump spans a column


def schedule_lines(
    schedule: Schedule,
    labels: Mapping[int, str] | None = None,
    *,
    width: int = 72,
    height: int = 6,
    ascii: bool = False,
) -> list[str]:
    """Title, plot and one line of numbers per distinct course; for a scheduler that was not simulated, why.

    ``labels`` name the groups by index (default: ``group 0``). ``width`` is that of the terminal in columns. ``ascii``
    draws each course with a letter of its own instead of braille dots.
    """
    title = schedule.class_name
    if schedule.ends is not None:
        title += f" ({schedule.ends})"
    if schedule.skipped:
        return [clean(f"not simulated: {schedule.skipped}")]
    drawn = courses(schedule.groups)
    if not drawn:
        return [clean(f"{title}: no rate to show")]
    unit = schedule.unit + ("" if schedule.horizon == 1 else "s")
    lines = [clean(f"{title}, {schedule.horizon} {unit}{remark(schedule)}")]
    lines += chart([trace for _, trace in drawn], width=width, height=height, ascii=ascii)
    names = labels or {}
    arrow = "->" if ascii else "→"
    sentences = []
    for index, (groups, trace) in enumerate(drawn):
        mark = f"{_letter(index)}  " if ascii else ""
        sentences.append(f"{mark}{_listed(groups, names)}: {numbers(trace, schedule.unit, arrow)}")
    if len(sentences) > _COURSES:
        alike = " and have the same shape" if same_shape([trace for _, trace in drawn]) else ""
        order = sorted(range(len(drawn)), key=lambda index: drawn[index][1].peak)
        sentences = [
            sentences[order[0]],
            sentences[order[-1]],
            f"the other {len(drawn) - 2} courses lie between{alike}",
        ]
    sentences += _others(schedule, names, arrow)
    return [*lines, *(line for text in sentences for line in wrap(text, width, "    ", "  ").splitlines())]


def _listed(groups: Sequence[int], names: Mapping[int, str]) -> str:
    more = f" and {len(groups) - 4} more" if len(groups) > 4 else ""
    return listing(names.get(group, f"group {group}") for group in groups[:4]) + more


def same_shape(traces: Sequence[Trace]) -> bool:
    """Whether the courses are multiples of one another, to 1 % of their peaks."""
    first = traces[0]
    if any(trace.peak <= 0 for trace in traces):
        return False
    marks = [first.steps[0] + (first.steps[-1] - first.steps[0]) * k / 16 for k in range(17)]
    shape = [first.at(mark) / first.peak for mark in marks]
    return all(
        abs(trace.at(mark) / trace.peak - value) < 0.01
        for trace in traces
        for mark, value in zip(marks, shape, strict=True)
    )


#: Traces besides the rate, by the name that users write.
_TITLES = {"weight_decay": "weight decay", "momentum": "momentum", "betas.0": "beta1", "betas.1": "beta2"}


def _others(schedule: Schedule, names: Mapping[int, str], arrow: str) -> list[str]:
    """Decay, momentum and betas that the scheduler moves, one line per distinct course."""
    groups_of: dict[tuple[str, Trace], list[int]] = {}
    for group in schedule.groups:
        for option, trace in group.others.items():
            if not trace.constant():
                groups_of.setdefault((option, trace), []).append(group.group)
    lines = []
    for (option, trace), groups in groups_of.items():
        group_names = listing(names.get(group, f"group {group}") for group in groups[:4])
        more = f" and {len(groups) - 4} more" if len(groups) > 4 else ""
        lowest = trace.steps[trace.values.index(trace.floor)]
        turns = [(trace.peak_step, trace.peak), (lowest, trace.floor)]
        inner = sorted(turn for turn in turns if turn[0] not in (trace.steps[0], trace.steps[-1]))
        inside = "".join(f" {arrow} {number(value)} at {schedule.unit} {step}" for step, value in inner)
        title = _TITLES.get(option, option)
        lines.append(f"{title} of {group_names}{more}: {number(trace.first)}{inside} {arrow} {number(trace.last)}")
    return lines


def chart(
    traces: Sequence[Trace], *, width: int = 72, height: int = 6, ascii: bool = False, wide: bool = False
) -> list[str]:
    """The traces on common axes, ``height`` lines of at most ``width`` columns and one for the steps below.

    ``wide``: see `axis`.
    """
    low, high, logarithmic = axis(traces, wide)
    above, below = rate(high), rate(low)
    if logarithmic and any(trace.floor < low for trace in traces):
        below = ("<=" if ascii else "≤") + below
    margin = max(len(above), len(below))
    columns = max(_NARROW, width - margin - 3)
    first = min(trace.steps[0] for trace in traces)
    last = max(trace.steps[-1] for trace in traces)
    scale = scaler(low, high, logarithmic)
    draw = _letters if ascii else _braille
    across = columns if ascii else 2 * columns
    rows = draw([_sampled(trace, first, last, across, scale) for trace in traces], columns, height)
    bar = "|" if ascii else "│"
    marks = [above, *[""] * (height - 2), below] if height > 1 else [above]
    lines = [f"  {mark:>{margin}}{bar}{row}".rstrip() for mark, row in zip(marks, rows, strict=True)]
    begin, end = str(first), str(last)
    return [*lines, f"  {'':>{margin}} {begin:<{max(columns - len(end), 0)}}{end}"]


def remark(schedule: Schedule) -> str:
    if schedule.capped is not None:
        return f", followed to {schedule.capped}"
    if schedule.error is not None:
        return f", raises {schedule.error.type} at {schedule.unit} {schedule.error.step}"
    return {"scheduler": ", its own length", "default": ", a look ahead"}.get(schedule.horizon_from, "")


def courses(groups: Sequence[GroupSchedule]) -> list[tuple[list[int], Trace]]:
    """Groups that share a course, with that course."""
    groups_of: dict[Trace, list[int]] = {}
    for group in groups:
        if group.lr is not None:
            groups_of.setdefault(group.lr, []).append(group.group)
    return [(indices, trace) for trace, indices in groups_of.items()]


def numbers(trace: Trace, unit: str, arrow: str) -> str:
    if trace.constant():
        return f"constant {rate(trace.first)}"
    inner = trace.peak_step not in (trace.steps[0], trace.steps[-1])
    middle = f" {arrow} {rate(trace.peak)} at {unit} {trace.peak_step}" if inner else ""
    return f"{rate(trace.first)}{middle} {arrow} {rate(trace.last)}"


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26)


def axis(traces: Sequence[Trace], wide: bool = False) -> tuple[float, float, bool]:
    """(lowest value shown, highest, whether the axis is logarithmic).

    Rates are drawn so that a fall to zero looks like one. ``wide``: what may grow or fall by orders of magnitude, all
    of which is shown.
    """
    high = max(trace.peak for trace in traces)
    floor = min(trace.floor for trace in traces)
    if wide and floor > 0 and high / floor > _LINEAR:
        return floor, high, True
    slowest = min((trace.peak for trace in traces if trace.peak > 0), default=0.0)
    low = min((value for trace in traces for value in trace.values if value > _BELOW * slowest), default=high)
    if floor >= 0 and slowest > 0 and high / slowest > _LINEAR:
        return low, high, True
    return min(floor, 0.0) if floor < high / 2 else floor, high, False


def scaler(low: float, high: float, logarithmic: bool) -> Callable[[float], float]:
    """Values to heights between 0 and 1. Between two values near the largest number, a course is beyond all numbers."""
    if logarithmic:
        base, span = math.log(low), math.log(high) - math.log(low)
        return lambda value: _within((math.log(value) - base) / span) if value > 0 else 0.0
    return lambda value: _within((value - low) / (high - low)) if high > low else 0.5


def _within(height: float) -> float:
    return min(max(0.0, height), 1.0)


def _sampled(trace: Trace, first: int, last: int, columns: int, scale: Callable[[float], float]) -> Points:
    points, edges = [], [first + (last - first) * k / max(columns - 1, 1) for k in range(columns)]
    inside = dict(zip(trace.steps, trace.values, strict=True))
    marks = sorted(inside)
    position = 0
    for left, right in zip(edges, [*edges[1:], last + 1.0], strict=True):
        values = [trace.at(left)]
        while position < len(marks) and marks[position] < right:
            if marks[position] >= left:
                values.append(inside[marks[position]])
            position += 1
        heights = [scale(value) for value in values]
        points.append((min(heights), max(heights)))
    return points


def _cells(points: Points, rows: int) -> list[range]:
    """Rows, counted from the bottom, that each column's value spans."""
    return [range(round(low * (rows - 1)), round(high * (rows - 1)) + 1) for low, high in points]


def _braille(series: Sequence[Points], columns: int, height: int) -> list[str]:
    grid = [[0] * columns for _ in range(height)]
    for points in series:
        for column, span in enumerate(_cells(points, 4 * height)):
            for level in span:
                down = 4 * height - 1 - level
                grid[down // 4][column // 2] |= _DOTS[column % 2][down % 4]
    return ["".join(chr(_BLANK + bits) if bits else " " for bits in row) for row in grid]


def _letters(series: Sequence[Points], columns: int, height: int) -> list[str]:
    grid = [[" "] * columns for _ in range(height)]
    for index, points in enumerate(series):
        for column, span in enumerate(_cells(points, height)):
            for level in span:
                cell = grid[height - 1 - level][column]
                grid[height - 1 - level][column] = _letter(index) if cell in (" ", _letter(index)) else "*"
    return ["".join(row) for row in grid]
