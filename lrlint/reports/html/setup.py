"""A setup as a section of the HTML page: groups with their parameters, and the course of the rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lrlint.facts import Optimizer, Parameter, Schedule, Setup
from lrlint.reports.html import probe as probe_section
from lrlint.reports.html.parts import chart, legend, prose, text
from lrlint.reports.views import curves
from lrlint.reports.views import setup as setup_view


def section(setup: Setup) -> str:
    """Heading, one table per optimizer, what no optimizer holds, schedules, and what could not be established."""
    parts = [
        f"<h2>{text(setup.target or 'Setup')}</h2>",
        f"<p>{text(setup_view.models(setup))} · {text(setup_view.size(setup))}</p>",
        *(_optimizer(setup, optimizer) for optimizer in setup.optimizers),
        *(_loose(title, parameters) for title, parameters in setup_view.unheld(setup)),
        *(_schedule(setup, schedule) for schedule in setup.schedules),
    ]
    if setup.probe is not None:
        parts.append(f"<h3>Probe</h3>{probe_section.section(setup.probe)}")
    if setup.notes:
        notes = "".join(f"<li>{text(note.fact)}: {prose(note.reason)}</li>" for note in setup.notes)
        parts.append(f"<h3>Not established</h3><ul>{notes}</ul>")
    return "".join(parts)


def _optimizer(setup: Setup, optimizer: Optimizer) -> str:
    where = f' <code class="dim">{text(str(optimizer.span))}</code>' if optimizer.span else ""
    rows = [setup_view.group_rows(setup, group) for group in optimizer.groups]
    return f"<h3>{text(optimizer.label)}{where}</h3>{_table(rows)}"


def _loose(title: str, parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return ""
    return f"<h3>{title}</h3>{_table([setup_view.pattern_rows('', parameters)])}"


def _table(groups: Iterable[Sequence[Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in setup_view.HEADERS)
    bodies = "".join(f"<tbody>{''.join(map(_row, rows))}</tbody>" for rows in groups)
    return f'<div class="wide"><table class="groups"><thead><tr>{head}</tr></thead>{bodies}</table></div>'


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in cells) + "</tr>"


def _schedule(setup: Setup, schedule: Schedule) -> str:
    drawn = curves.courses(schedule.groups)
    title = f"<h3>{text(schedule.class_name)}</h3>"
    if schedule.skipped or not drawn:
        return f"{title}<p>not simulated: {text(schedule.skipped or 'it sets no rate')}</p>"
    optimizer = None if schedule.optimizer is None else setup.optimizers[schedule.optimizer]
    labels = {} if optimizer is None else {group.index: group.label for group in optimizer.groups}
    told = [
        f"{', '.join(labels.get(g, f'group {g}') for g in groups)}: {curves.numbers(trace, schedule.unit, '→')}"
        for groups, trace in drawn
    ]
    length = f"{schedule.horizon} {schedule.unit}s{curves.remark(schedule)}"
    return f'{title}<p class="dim">{text(length)}</p>{chart([t for _, t in drawn], "learning rates")}{legend(told)}'
