"""Line charts as plain numbers: axes with ticks and names, and lines with a label at their end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrlint.facts import ProbeFacts, Schedule, Trace
from lrlint.reports.views import curves
from lrlint.reports.views import probe as picture
from lrlint.text.wording import rate

#: Lines of one chart before the ones between are left out.
LINES = 8


@dataclass(frozen=True, slots=True)
class Axis:
    """``ticks`` are (position between 0 and 1, text)."""

    name: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Points between 0 and 1 (0, 0 is where the axes meet). ``shade`` from 0 to 1 orders the lines of a family."""

    points: tuple[tuple[float, float], ...]
    label: str
    shade: float = 0.0


@dataclass(frozen=True, slots=True)
class Chart:
    """``told`` is the picture in words."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    told: str


def chart(
    drawn: Sequence[tuple[str, Trace]], title: str, unit: str, name: str, caption: str = "", wide: bool = False
) -> Chart:
    """Labelled traces on common axes; ``wide`` as in `lrlint.reports.views.curves.axis`."""
    traces = [trace for _, trace in drawn]
    low, high, logarithmic = curves.axis(traces, wide)
    height = curves.scaler(low, high, logarithmic)
    first, last = min(t.steps[0] for t in traces), max(t.steps[-1] for t in traces)
    span = max(last - first, 1)
    clipped = logarithmic and any(trace.floor < low for trace in traces)
    many = max(len(drawn) - 1, 1)
    lines = tuple(
        Line(
            tuple(((s - first) / span, min(height(v), 1.0)) for s, v in zip(t.steps, t.values, strict=True)),
            label,
            index / many,
        )
        for index, (label, t) in enumerate(drawn)
    )
    marks = _powers(low, high) if logarithmic else _round(low, high)
    ticks = [(height(value), rate(value)) for value in marks]
    if clipped:
        ticks = [(0.0, f"≤{rate(low)}"), *(tick for tick in ticks if tick[0] > 0.12)]
    x = Axis(unit, tuple(((value - first) / span, f"{value:,.0f}") for value in _round(first, last)))
    y = Axis(f"{name} (log)" if logarithmic else name, tuple(ticks))
    words = caption or "; ".join(
        f"{label}: {curves.numbers(trace, unit.rstrip('s'), '→')}" for label, trace in drawn[:4]
    )
    return Chart(title, x, y, lines, words)


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten within the range, with 2 and 5 times them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [10.0**k for k in range(first, last + 1)]
    ticks = [value for value in powers if low * 0.999 <= value <= high * 1.001]
    ticks = ticks[:: max(1, math.ceil(len(ticks) / 6))]
    if len(ticks) < 3:
        steps = [factor * power for power in powers for factor in (1, 2, 5)]
        ticks = [value for value in steps if low * 0.999 <= value <= high * 1.001]
    return ticks or [low, high]


def _round(low: float, high: float) -> list[float]:
    """Up to six round values within the range."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A scheduler: its title, a remark on its length, the chart (None: ``told`` says why) and a sentence per course."""

    title: str
    told: str
    chart: Chart | None
    courses: tuple[str, ...] = ()


def schedule_view(schedule: Schedule, labels: dict[int, str]) -> ScheduleView:
    """The course of the rates: of many, the slowest, the fastest and some between, in a ramp."""
    drawn = curves.courses(schedule.groups)
    if schedule.skipped or not drawn:
        return ScheduleView(schedule.class_name, f"not simulated: {schedule.skipped or 'it sets no rate'}", None)
    unit = schedule.unit + ("" if schedule.horizon == 1 else "s")
    caption = f"{schedule.horizon:,} {unit}{curves.remark(schedule)}" if schedule.horizon else "length unknown"
    named = [(_names([_short(labels.get(g, f"group {g}")) for g in groups]), trace) for groups, trace in drawn]
    named.sort(key=lambda pair: pair[1].peak)
    shown = named
    if len(named) > LINES:
        shown = [named[round(k * (len(named) - 1) / (LINES - 1))] for k in range(LINES)]
        caption += f"; {LINES} of {len(named)} courses drawn"
    courses = [f"{label}: {curves.numbers(trace, schedule.unit, '→')}" for label, trace in reversed(shown)]
    if len(named) > LINES:
        courses = [courses[0], courses[-1]]
        if curves.same_shape([trace for _, trace in named]):
            courses.append(f"the other {len(named) - 2} lie between and have the same shape")
    ends = {0, len(shown) - 1}
    lines = [
        (f"peak {rate(trace.peak)}, {label}" if len(shown) <= 4 or index in ends else "", trace)
        for index, (label, trace) in enumerate(shown)
    ]
    picture_ = chart(lines, "learning rates over the run", unit, "rate", "; ".join(courses))
    return ScheduleView(schedule.class_name, caption, picture_, tuple(courses))


def _short(label: str) -> str:
    """The user's own name of a group without its number: ``group 3 (head)`` is ``head``."""
    return label.partition("(")[2].removesuffix(")") or label


def _names(labels: Sequence[str]) -> str:
    return ", ".join(labels[:2]) + (f" and {len(labels) - 2} more" if len(labels) > 2 else "")


def loss_chart(facts: ProbeFacts) -> Chart | None:
    """The loss of the probe's run as configured."""
    trace = picture.losses(facts)
    if trace is None:
        return None
    return chart([("as configured", trace)], "loss", "steps", "loss", picture.as_configured(facts), wide=True)


def ratio_chart(facts: ProbeFacts) -> Chart | None:
    """The size of the updates beside that of the weights, by group."""
    drawn = [(group.label, trace) for group, trace in picture.ratios(facts)]
    return chart(drawn, picture.of_weights(facts), "steps", "update / weights", wide=True) if drawn else None
