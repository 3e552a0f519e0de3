"""Code frames: source lines with labelled regions under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from lrlint.facts import Span
from lrlint.reports.style import Style, clean, columns, shorten
from lrlint.text.sources import SourceFile

#: A region with more lines is shown by its first and last ones.
_LONG = 6
_TAB = "    "
#: Columns of a region that are to be seen; a line is shifted where there is no room for so many.
_SEEN = 20


@dataclass(frozen=True)
class Mark:
    """A region of the source with its label. The primary one says what is wrong, the others what it relates to."""

    span: Span
    label: str = ""
    primary: bool = True


def frame(source: SourceFile, marks: Sequence[Mark], style: Style, gutter: int) -> list[str]:
    """The lines around the marks (all in this file), each mark under its own line, at most ``style.width`` wide."""
    shown: dict[int, list[Mark]] = {}
    for mark in marks:
        for line in _lines_of(mark.span, len(source.lines)):
            shown.setdefault(line, [])
        if 1 <= mark.span.line <= len(source.lines):
            shown[mark.span.line].append(mark)
    if not any(shown.values()):
        return []
    bar = style.paint("|", "blue")
    empty = f"{' ' * gutter} {bar}"
    room = max(style.width - gutter - 3, 30)
    output = [empty]
    previous = None
    indent = _common_indent([source.lines[line - 1] for line in shown])
    for line in sorted(shown):
        if previous is not None and line == previous + 2 and not shown.get(line - 1):
            output.append(
                _source(source, line - 1, indent, room, gutter, style)
            )  # one line is shorter than an ellipsis
        elif previous is not None and line > previous + 1:
            output.append(style.paint("...", "blue"))
        cut = _cut(source.lines[line - 1], shown[line], indent, room)
        output.append(_source(source, line, cut, room, gutter, style))
        output += [f"{empty} {text}".rstrip() for text in _underlines(source, line, shown[line], cut, room, style)]
        previous = line
    return [*output, empty]


def _lines_of(span: Span, count: int) -> list[int]:
    last = min(max(span.end_line or 0, span.line), count)
    lines = list(range(span.line, last + 1))
    return lines if len(lines) <= _LONG else [*lines[: _LONG - 2], lines[-1]]


def _common_indent(lines: Sequence[str]) -> int:
    """Columns that all lines leave blank, so that deep code does not waste the width; small ones are kept."""
    blanks = [len(text) - len(text.lstrip()) for text in (line.expandtabs(4) for line in lines) if text.strip()]
    common = min(blanks, default=0)
    return common if common > 12 else 0


def _cut(raw: str, marks: Sequence[Mark], indent: int, room: int) -> int:
    """Characters to leave out at the left: the indent, or so many that what is marked in a long line can be seen."""
    if not marks:
        return indent
    first, last = _region(raw, min(marks, key=lambda m: (not m.primary, m.span.column or 0)).span)
    before, through = _visible(raw[:first]), _visible(raw[:last])
    if min(columns(through[indent:]), columns(before[indent:]) + _SEEN) <= room:
        return indent
    return max(indent, min(len(before) - room // 4, len(through) - room + 1))


def _after(text: str, cut: int, indent: int) -> str:
    """The visible text without what is cut off, which an ellipsis stands for where it is more than the indent."""
    return text[cut:] if cut <= indent else "…" + text[cut + 1 :]


def _source(source: SourceFile, line: int, cut: int, room: int, gutter: int, style: Style) -> str:
    text = _visible(source.lines[line - 1])
    text = _after(text, cut, len(text) - len(text.lstrip()))
    number = style.paint(str(line).rjust(gutter), "blue")
    return f"{number} {style.paint('|', 'blue')} {shorten(text, room)}".rstrip()


def _visible(text: str) -> str:
    return clean(text.replace("\t", _TAB))


def _region(raw: str, span: Span) -> tuple[int, int]:
    """Where a region begins and ends in its first line."""
    multiline = (span.end_line or span.line) > span.line
    first = len(raw) - len(raw.lstrip()) if span.column is None else span.column - 1
    return first, len(raw.rstrip()) if multiline or span.end_column is None else span.end_column - 1


@dataclass(frozen=True)
class _Spot:
    """A mark on its line: the column and width of its carets, and the label."""

    start: int
    length: int
    label: str
    primary: bool

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def colour(self) -> str:
        return "red" if self.primary else "blue"


def _spot(raw: str, mark: Mark, cut: int, room: int) -> _Spot:
    first, last = _region(raw, mark.span)
    start = columns(_visible(raw[:first])[cut:])
    length = max(columns(_visible(raw[first:last])), 1)
    start = min(max(start, 0), room - 2)
    return _Spot(start, min(length, room - start), clean(mark.label), mark.primary)


def _underlines(source: SourceFile, line: int, marks: Sequence[Mark], cut: int, room: int, style: Style) -> list[str]:
    """One row of carets under a line; the last label beside it where there is room, the others hang below on bars."""
    if not marks:
        return []
    raw = source.lines[line - 1]
    spots = sorted((_spot(raw, mark, cut, room) for mark in marks), key=lambda s: (s.start, s.end, s.primary))
    carets: dict[int, tuple[str, str]] = {}
    for spot in sorted(spots, key=lambda s: s.primary):
        sign = "^" if spot.primary else "-"
        carets.update(dict.fromkeys(range(spot.start, spot.end), (sign, spot.colour)))
    row = _painted(carets, style)
    hanging = [spot for spot in spots if spot.label]
    last = hanging[-1] if hanging else None
    end = max(spot.end for spot in spots)
    if last is not None and last.end == end and end + 1 + columns(last.label) <= room:
        row += " " + style.paint(last.label, last.colour)
        hanging.pop()
    rows = [row]
    bars = {spot.start: ("|", spot.colour) for spot in hanging}
    if bars and len(spots) > 1:
        rows.append(_painted(bars, style))
    while hanging:
        spot = hanging.pop()
        beside = max(min(spot.start, room - columns(spot.label)), 0)
        bars = {other.start: ("|", other.colour) for other in hanging if other.start < beside - 1}
        text = _painted(bars, style)
        reach = max(bars, default=-1) + 1
        rows.append(text + " " * (beside - reach) + style.paint(shorten(spot.label, room - beside), spot.colour))
    return rows


def _painted(cells: Mapping[int, tuple[str, str]], style: Style) -> str:
    """Characters at their columns, neighbours of one colour painted together."""
    text, column = "", 0
    for (sign, colour), group in groupby(sorted(cells), key=lambda cell: cells[cell]):
        for _, run in groupby(enumerate(group), key=lambda pair: pair[1] - pair[0]):
            cells_of_run = [cell for _, cell in run]
            text += " " * (cells_of_run[0] - column) + style.paint(sign * len(cells_of_run), colour)
            column = cells_of_run[-1] + 1
    return text
