"""What lrlint sees of a setup: optimizers, groups, and the parameters in them as patterns (`lrlint show`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lrlint.facts import Optimizer, Parameter, Setup
from lrlint.reports.style import Style, clean, wrap
from lrlint.reports.table import shortened, table
from lrlint.reports.views.card import elements, models, present
from lrlint.reports.views.group_map import group_map
from lrlint.reports.views.ladders import GroupRow, peak, shared_options
from lrlint.reports.views.ladders import group_rows as ladder_rows
from lrlint.reports.views.map_text import map_lines
from lrlint.text import names
from lrlint.text.wording import count, rate

_ROWS = 40


def render(setup: Setup, style: Style) -> str:
    """Head, the group map, one table per optimizer, what no optimizer holds and what could not be established."""
    blocks = [_head(setup, style)]
    grid = group_map(setup)
    if grid is not None and setup.optimizers:
        blocks.append("\n".join(clean(line) for line in map_lines(grid, style.width)))
    blocks += [_optimizer(setup, optimizer, style) for optimizer in setup.optimizers]
    for title, loose in unheld(setup):
        if loose:
            blocks.append(f"{style.paint(title, 'bold')}\n{_table(pattern_rows('', loose), style)}")
    if setup.schedules:
        blocks.append(schedules(setup, style).rstrip("\n"))
    if setup.notes:
        notes = (wrap(f"{note.fact}: {note.reason}", style.width, "    ", "  ") for note in setup.notes)
        blocks.append("\n".join([style.paint("Not established", "bold"), *notes]))
    return "\n\n".join(blocks) + "\n"


def unheld(setup: Setup) -> list[tuple[str, list[Parameter]]]:
    """(title, parameters in no optimizer) of those that train and those that are frozen."""
    loose = [p for p in present(setup) if p.index not in setup.membership]
    return [
        ("In no optimizer, trainable", [p for p in loose if p.requires_grad]),
        ("In no optimizer, frozen", [p for p in loose if not p.requires_grad]),
    ]


def schedules(setup: Setup, style: Style) -> str:
    """The course of every scheduler's rates."""
    from lrlint.reports.views.curves import schedule_lines

    if not setup.schedules:
        return "no scheduler\n"
    lines: list[str] = []
    for schedule in setup.schedules:
        optimizer = None if schedule.optimizer is None else setup.optimizers[schedule.optimizer]
        labels = {} if optimizer is None else {group.index: clean(group.label) for group in optimizer.groups}
        drives = f" → {clean(optimizer.label)}" if optimizer is not None and len(setup.optimizers) > 1 else ""
        title, *rest = schedule_lines(schedule, labels, width=min(style.width, 90))
        lines += [style.paint(f"{title}{drives}", "bold"), *rest, ""]
    return "\n".join(lines[:-1]) + "\n"


def _head(setup: Setup, style: Style) -> str:
    lead = clean(setup.target) or "setup"
    return f"{style.paint(lead, 'bold')}  {clean(models(setup))}\n{size(setup)}"


def size(setup: Setup) -> str:
    """How many tensors and elements, and how many of them train."""
    parameters = present(setup)
    total = sum(parameter.numel for parameter in parameters)
    trainable = sum(parameter.numel for parameter in parameters if parameter.requires_grad)
    tensors = count(len(parameters), "parameter tensor")
    return f"{tensors}, {elements(total)} elements ({elements(trainable)} trainable)"


def _optimizer(setup: Setup, optimizer: Optimizer, style: Style) -> str:
    where = f"  {optimizer.span}" if optimizer.span else ""
    title = f"{style.paint(clean(optimizer.label), 'bold')} ({optimizer.family}){style.paint(clean(where), 'dim')}"
    shared = wrap(", ".join(shared_options(optimizer)), style.width, "  ") if shared_options(optimizer) else ""
    rows: list[Row] = []
    notes = []
    for row in ladder_rows(setup, optimizer):
        rows += group_rows(row)
        if row.note or row.options:
            notes.append(
                wrap(f"{row.label}: {'; '.join(filter(None, (row.note, row.options)))}", style.width, "    ", "  ")
            )
    return "\n".join(part for part in (title, shared, _table(rows, style), *notes) if part)


Row = list[str]
HEADERS = ("group", "peak rate", "decay", "n", "elements", "shape", "role", "parameters")


def group_rows(row: GroupRow) -> list[Row]:
    """A row per pattern of the group's parameters (or of those of a ladder of groups)."""
    rows = pattern_rows(row.label, [parameter for group in row.groups for parameter in group.parameters])
    if not rows:
        rows = [[clean(row.label), "", "", "0", "0", "", "", "(empty)"]]
    rows[0][1], rows[0][2] = row.rates, row.decay
    now = {group.lr for group in row.groups}
    if not row.folded and now != {peak(row.groups[0])} and None not in now:
        rows[0][1] = f"{rate(row.groups[0].lr or 0.0)} (peak {row.rates})"
    return rows


def pattern_rows(label: str, parameters: Sequence[Parameter]) -> list[Row]:
    """One row per name pattern; long lists are cut, with a row that counts the rest."""
    patterns: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        patterns.setdefault(names.star(parameter.name), []).append(parameter)
    rows: list[Row] = []
    for same in patterns.values():
        text = ", ".join(names.compress(p.name for p in same))
        training = sum(p.requires_grad for p in same)
        frozen = "" if training == len(same) else ", part frozen" if training else ", frozen"
        total = elements(sum(p.numel for p in same))
        rows.append(["", "", "", str(len(same)), total, _shape(same), _role(same) + frozen, clean(text)])
    if len(rows) > _ROWS:
        rest = sum(int(row[3]) for row in rows[_ROWS:])
        more = f"and {count(len(rows) - _ROWS, 'more pattern')}"
        rows = [*rows[:_ROWS], ["", "", "", str(rest), "", "", "", more]]
    if rows:
        rows[0][0] = clean(label)
    return rows


def _table(rows: Sequence[Row], style: Style) -> str:
    labels = shortened([row[0] for row in rows], max(style.width // 4, 12))
    rows = [[label, *row[1:]] for label, row in zip(labels, rows, strict=True)]
    optional = ("shape", "elements", "n", "role")
    right = ("peak rate", "decay", "n", "elements")
    return "\n".join(table(HEADERS, rows, style.width, name="parameters", right=right, optional=optional))


def _shape(parameters: Iterable[Parameter]) -> str:
    shapes = list(
        dict.fromkeys("?" if p.shape is None else "×".join(map(str, p.shape)) or "scalar" for p in parameters)
    )
    return shapes[0] if len(shapes) == 1 else f"{shapes[0]}, …"


def _role(parameters: Iterable[Parameter]) -> str:
    return clean(", ".join(dict.fromkeys(p.role for p in parameters)))
