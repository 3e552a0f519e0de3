"""The group map in characters, for terminals and Markdown."""

from __future__ import annotations

from lrlint.reports.views.group_map import FROZEN, NO_RATE, UNCOVERED, GroupMap
from lrlint.text.wording import rate

_ROWS = 7
#: Treatments in order of the legend; several in one cell; the states.
_BLOCKS = "█▂▄▁▆▃"
_ASCII = "#-=_+~"
_SEVERAL, _SEVERAL_ASCII = "▓", "%"
_STATES = {UNCOVERED: "╳", FROZEN: "░", NO_RATE: "·"}
_STATES_ASCII = {UNCOVERED: "X", FROZEN: ":", NO_RATE: "."}


def map_lines(picture: GroupMap, width: int, ascii: bool = False) -> list[str]:
    """Axis, picture, labels and legend in lines of at most ``width`` columns."""
    marks, several = (_ASCII, _SEVERAL_ASCII) if ascii else (_BLOCKS, _SEVERAL)
    states = _STATES_ASCII if ascii else _STATES
    low, high = picture.decades
    margin = max(len(rate(10.0**k)) for k in (low, high))
    columns = min(len(picture.slots), max(width - margin - 3, 10))
    # Few parameters are drawn wider, so that the picture does not shrink to a corner.
    wide = max(1, min((width - margin - 3) // max(columns, 1), 4))
    grid = [[" "] * columns for _ in range(_ROWS)]
    shared = False
    for run in picture.runs(columns):
        for column in range(run.first, run.last):
            if run.rate is None:
                rows = range(_ROWS) if run.state != NO_RATE else range(_ROWS - 1, _ROWS)
                for row in rows:
                    if grid[row][column] == " ":
                        grid[row][column] = states[run.state]
                continue
            row = round((1 - picture.height(run.rate)) * (_ROWS - 1))
            mark = marks[run.treatment % len(marks)]
            there = grid[row][column]
            fresh = there in (" ", mark, *states.values())
            shared = shared or not fresh
            grid[row][column] = mark if fresh else several
    ticks = {round((1 - (k - low) / (high - low)) * (_ROWS - 1)): rate(10.0**k) for k in range(low, high + 1)}
    bar = "|" if ascii else "│"
    lines = []
    for index, cells in enumerate(grid):
        body = "".join(cell * wide for cell in cells)
        lines.append(f"{ticks.get(index, ''):>{margin}}{bar}{body}".rstrip())
    lines.append(f"{'':>{margin}} {_labels(picture, columns * wide)}".rstrip())
    legend = [f"{marks[k % len(marks)]} {name}" for k, name in enumerate(picture.treatments)]
    legend += [f"{several} several"] if shared else []
    legend += [f"{states[state]} {state}" for state in picture.states]
    return [*lines, *_filled(legend, width, margin + 1), f"{'':>{margin}} {_order(picture)}; height: peak rate (log)"]


def _order(picture: GroupMap) -> str:
    return "input to output" if picture.executed else "in the order of registration"


def _labels(picture: GroupMap, columns: int) -> str:
    """The blocks' names under the picture, as many as fit."""
    text = [" "] * columns
    end = -1
    labels = picture.labels()
    for position, label in labels:
        start = position * columns // max(len(picture.slots), 1)
        if start > end and start + len(label) <= columns:
            text[start : start + len(label)] = label
            end = start + len(label)
    return "".join(text)


def _filled(legend: list[str], width: int, indent: int) -> list[str]:
    lines, line = [], ""
    for item in legend:
        longer = f"{line}   {item}" if line else " " * indent + item
        if len(longer) > width and line:
            lines.append(line)
            longer = " " * indent + item
        line = longer
    return [*lines, line] if line else lines
