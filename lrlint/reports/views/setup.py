"""What lrlint sees of a setup: optimizers, groups, and the parameters in them as patterns (`lrlint show`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from lrlint.facts import Group, Optimizer, Parameter, Setup
from lrlint.reports.style import Style, clean, shorten
from lrlint.text import names
from lrlint.text.wording import count, rate

_ROWS = 40


def render(setup: Setup, style: Style) -> str:
    """Head, one table per optimizer, then what no optimizer holds and what could not be established."""
    blocks = [_head(setup, style)]
    blocks += [_optimizer(setup, optimizer, style) for optimizer in setup.optimizers]
    for title, loose in unheld(setup):
        if loose:
            blocks.append(f"{style.paint(title, 'bold')}\n{_table(pattern_rows('', loose), style)}")
    if setup.schedules:
        blocks.append(schedules(setup, style).rstrip("\n"))
    if setup.notes:
        blocks.append(
            "\n".join(
                [style.paint("Not established", "bold"), *(f"  {n.fact}: {clean(n.reason)}" for n in setup.notes)]
            )
        )
    return "\n\n".join(blocks) + "\n"


def unheld(setup: Setup) -> list[tuple[str, list[Parameter]]]:
    """(title, parameters in no optimizer) of those that train and those that are frozen."""
    loose = [p for p in _present(setup) if p.index not in setup.membership]
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
    return f"{style.paint(clean(setup.target) or 'setup', 'bold')}  {models(setup)}\n{size(setup)}"


def models(setup: Setup) -> str:
    """``generator: Net, critic: Net``."""
    named = ((clean(model.name), model.class_name) for model in setup.models)
    return ", ".join(f"{name}: {kind}" if name not in ("", kind) else kind for name, kind in named)


def size(setup: Setup) -> str:
    """How many tensors and elements, and how many of them train."""
    present = _present(setup)
    total = sum(parameter.numel for parameter in present)
    trainable = sum(parameter.numel for parameter in present if parameter.requires_grad)
    tensors = count(len(present), "parameter tensor")
    return f"{tensors}, {_count(total)} elements ({_count(trainable)} trainable)"


def _present(setup: Setup) -> list[Parameter]:
    """Without those that only an optimizer holds which was built and not returned."""
    return [parameter for parameter in setup.parameters if parameter.origin != "discarded"]


def _optimizer(setup: Setup, optimizer: Optimizer, style: Style) -> str:
    where = f"  {optimizer.span}" if optimizer.span else ""
    title = f"{style.paint(clean(optimizer.label), 'bold')} ({optimizer.family}){style.paint(where, 'dim')}"
    rows = [row for group in optimizer.groups for row in group_rows(setup, group)]
    return f"{title}\n{_table(rows, style)}"


Row = list[str]
HEADERS = ("group", "lr", "decay", "parameters", "n", "elements", "shape", "role")


def group_rows(setup: Setup, group: Group) -> list[Row]:
    rows = pattern_rows(group.label.removeprefix("group "), group.parameters)
    if not rows:
        rows = [[group.label.removeprefix("group "), "", "", "(empty)", "0", "0", "", ""]]
    rows[0][1], rows[0][2] = _rate(setup, group), f"{group.weight_decay:g}"
    return rows


def _rate(setup: Setup, group: Group) -> str:
    now, peak = group.lr, group.peak_lr
    if now is None:
        return "-"
    return rate(now) if peak is None or peak == now else f"{rate(now)} (peak {rate(peak)})"


def pattern_rows(label: str, parameters: Sequence[Parameter]) -> list[Row]:
    """One row per name pattern; long lists are cut, with a row that counts the rest."""
    patterns: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        patterns.setdefault(names.star(parameter.name), []).append(parameter)
    rows: list[Row] = []
    for same in patterns.values():
        text = ", ".join(names.compress(p.name for p in same))
        frozen = (
            ""
            if all(p.requires_grad for p in same)
            else ", frozen"
            if not any(p.requires_grad for p in same)
            else ", part frozen"
        )
        elements = _count(sum(p.numel for p in same))
        rows.append(["", "", "", clean(text), str(len(same)), elements, _shape(same), _role(same) + frozen])
    if len(rows) > _ROWS:
        rest = sum(int(row[4]) for row in rows[_ROWS:])
        rows = [*rows[:_ROWS], ["", "", "", f"and {count(len(rows) - _ROWS, 'more pattern')}", str(rest), "", "", ""]]
    if rows:
        rows[0][0] = clean(label)
    return rows


def _table(rows: Sequence[Row], style: Style) -> str:
    room = max(style.width - 62, 30)
    fitted = [[*row[:3], shorten(row[3], room), *row[4:]] for row in rows]
    text: str = tabulate(
        fitted,
        headers=HEADERS,
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "right", "right", "left", "right", "right", "left", "left"),
    )
    return text


def _shape(parameters: Iterable[Parameter]) -> str:
    shapes = list(
        dict.fromkeys("?" if p.shape is None else "×".join(map(str, p.shape)) or "scalar" for p in parameters)
    )
    return shapes[0] if len(shapes) == 1 else f"{shapes[0]}, …"


def _role(parameters: Iterable[Parameter]) -> str:
    return ", ".join(dict.fromkeys(p.role for p in parameters))


def _count(number: int) -> str:
    """``768``, ``12.3k``, ``1.3B``."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return str(number)
