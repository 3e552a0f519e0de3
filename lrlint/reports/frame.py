"""Code frames: source lines with labelled regions under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        for mark in sorted(shown[line], key=lambda m: (-(m.span.column or 0), not m.primary)):
            output += [f"{empty} {text}".rstrip() for text in _underline(source, line, mark, cut, room, style)]
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


def _underline(source: SourceFile, line: int, mark: Mark, cut: int, room: int, style: Style) -> list[str]:
    """The carets under a region's first line, with its label beside them, or below where there is no room."""
    raw = source.lines[line - 1]
    first, last = _region(raw, mark.span)
    start = columns(_visible(raw[:first])[cut:])
    length = max(columns(_visible(raw[first:last])), 1)
    start = min(max(start, 0), room - 2)
    length = min(length, room - start)
    colour = "red" if mark.primary else "blue"
    carets = style.paint(("^" if mark.primary else "-") * length, colour)
    label = clean(mark.label)
    if not label:
        return [" " * start + carets]
    if start + length + 1 + columns(label) <= room:
        return [f"{' ' * start}{carets} {style.paint(label, colour)}"]
    beside = max(min(start, room - columns(label)), 0)
    return [" " * start + carets, " " * beside + style.paint(shorten(label, room - beside), colour)]
