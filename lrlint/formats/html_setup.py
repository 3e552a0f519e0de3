"""A setup as a section of the HTML page: groups with their parameters, and the course of the rates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from lrlint.facts import Optimizer, Parameter, Schedule, Setup, Trace
from lrlint.formats import plot, probe_picture, setup_table
from lrlint.formats.text import clean
from lrlint.vocabulary import rate

#: Okabe and Ito's colours, which also readers with impaired colour vision tell apart (jfly.uni-koeln.de/color).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_WIDTH, _HEIGHT, _LEFT, _BELOW = 640, 170, 70, 22


def text(value: str) -> str:
    """Escaped for HTML, without control characters."""
    return escape(clean(value.replace("\t", "    ")))


def prose(value: str) -> str:
    """Escaped text whose `quoted names` are set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


def section(setup: Setup) -> str:
    """Heading, one table per optimizer, what no optimizer holds, schedules, and what could not be established."""
    parts = [
        f"<h2>{text(setup.target or 'Setup')}</h2>",
        f"<p>{text(setup_table.models(setup))} · {text(setup_table.size(setup))}</p>",
        *(_optimizer(setup, optimizer) for optimizer in setup.optimizers),
        *(_loose(title, parameters) for title, parameters in setup_table.unheld(setup)),
        *(_schedule(setup, schedule) for schedule in setup.schedules),
    ]
    if setup.probe is not None:
        parts.append(f"<h3>Probe</h3>{probe_picture.html(setup.probe)}")
    if setup.notes:
        notes = "".join(f"<li>{text(note.fact)}: {prose(note.reason)}</li>" for note in setup.notes)
        parts.append(f"<h3>Not established</h3><ul>{notes}</ul>")
    return "".join(parts)


def _optimizer(setup: Setup, optimizer: Optimizer) -> str:
    where = f' <code class="dim">{text(str(optimizer.span))}</code>' if optimizer.span else ""
    rows = [setup_table.group_rows(setup, group) for group in optimizer.groups]
    return f"<h3>{text(optimizer.label)}{where}</h3>{_table(rows)}"


def _loose(title: str, parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return ""
    return f"<h3>{title}</h3>{_table([setup_table.pattern_rows('', parameters)])}"


def _table(groups: Iterable[Sequence[Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in setup_table.HEADERS)
    bodies = "".join(f"<tbody>{''.join(map(_row, rows))}</tbody>" for rows in groups)
    return f'<div class="wide"><table class="groups"><thead><tr>{head}</tr></thead>{bodies}</table></div>'


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in cells) + "</tr>"


def _schedule(setup: Setup, schedule: Schedule) -> str:
    drawn = plot.courses(schedule.groups)
    title = f"<h3>{text(schedule.class_name)}</h3>"
    if schedule.skipped or not drawn:
        return f"{title}<p>not simulated: {text(schedule.skipped or 'it sets no rate')}</p>"
    optimizer = None if schedule.optimizer is None else setup.optimizers[schedule.optimizer]
    labels = {} if optimizer is None else {group.index: group.label for group in optimizer.groups}
    legend = "".join(
        f'<li><span style="color:{_COLOURS[k % len(_COLOURS)]}">━</span> '
        f"{text(', '.join(labels.get(g, f'group {g}') for g in groups))}: "
        f"{text(plot.numbers(trace, schedule.unit, '→'))}</li>"
        for k, (groups, trace) in enumerate(drawn)
    )
    told = f"{schedule.horizon} {schedule.unit}s{plot.remark(schedule)}"
    return f'{title}<p class="dim">{text(told)}</p>{_chart([t for _, t in drawn])}<ul class="legend">{legend}</ul>'


def _chart(traces: Sequence[Trace]) -> str:
    """The traces as lines on common axes; the vertical one is logarithmic where rates are far apart."""
    low, high, logarithmic = plot.axis(traces)
    height = plot.scaler(low, high, logarithmic)
    first, last = min(t.steps[0] for t in traces), max(t.steps[-1] for t in traces)
    span = max(last - first, 1)

    def point(step: float, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT) * (step - first) / span
        return f"{x:.1f},{(_HEIGHT - _BELOW) * (1 - height(value)) + 2:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[k % len(_COLOURS)]}" stroke-width="1.6" '
        f'points="{" ".join(point(s, v) for s, v in zip(t.steps, t.values, strict=True))}"/>'
        for k, t in enumerate(traces)
    )
    base = _HEIGHT - _BELOW + 2
    marks = (
        (_LEFT - 6, 12, "end", rate(high)),
        (_LEFT - 6, base, "end", rate(low)),
        (_LEFT, _HEIGHT - 4, "start", str(first)),
        (_WIDTH, _HEIGHT - 4, "end", str(last)),
    )
    labels = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{label}</text>' for x, y, anchor, label in marks)
    axes = f'<path d="M{_LEFT} 2V{base}H{_WIDTH}" fill="none" stroke="currentColor" opacity=".4"/>'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="learning rates">{axes}{lines}{labels}</svg>'
