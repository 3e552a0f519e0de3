"""Tables for terminals: they keep to their width, and no two rows that differ read alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lrlint.reports.style import columns

_GAP = 2
#: A column of names is not made narrower than this while another can be left out.
NARROW = 24


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    name: str,
    right: Collection[str] = (),
    optional: Sequence[str] = (),
) -> list[str]:
    """Head, rule and rows in lines of at most ``width`` columns.

    ``name`` is the header of the column whose texts may be cut, on the left, where the names of one model agree;
    ``optional`` are those of columns that are left out, first to last, where there is no room for all.
    """
    shown = list(range(len(headers)))
    wide = [max([columns(headers[k]), *(columns(row[k]) for row in rows)]) for k in range(len(headers))]
    named = list(headers).index(name)
    longest = wide[named]
    for header in optional:
        others = sum(wide[k] + _GAP for k in shown if k != named)
        if width - others >= min(longest, max(NARROW, longest // 2)):
            break
        if header in headers:
            shown.remove(list(headers).index(header))
    others = sum(wide[k] + _GAP for k in shown if k != named)
    room = max(width - others, min(longest, 12))
    cut = [list(row) for row in rows]
    texts = shortened([row[named] for row in rows], room)
    for row, text in zip(cut, texts, strict=True):
        row[named] = text
    wide[named] = min(longest, room)
    lines = [_line([headers[k] for k in shown], shown, wide, headers, right)]
    lines.append((" " * _GAP).join("-" * wide[k] for k in shown))
    lines += [_line([row[k] for k in shown], shown, wide, headers, right) for row in cut]
    return lines


def _line(
    cells: Sequence[str], shown: Sequence[int], wide: Sequence[int], headers: Sequence[str], right: Collection[str]
) -> str:
    parts = []
    for cell, k in zip(cells, shown, strict=True):
        pad = " " * (wide[k] - columns(cell))
        parts.append(pad + cell if headers[k] in right else cell + pad)
    return (" " * _GAP).join(parts).rstrip()


def shortened(texts: Sequence[str], room: int) -> list[str]:
    """Each text in at most ``room`` columns: cut on the left; where two would read alike, in the middle."""
    cut = [_left(text, room) for text in texts]
    for share in (0.5, 0.3, 0.7):
        alike = _alike(texts, cut)
        if not alike:
            break
        cut = [_middle(text, room, share) if k in alike else cut[k] for k, text in enumerate(texts)]
    return cut


def _alike(texts: Sequence[str], cut: Sequence[str]) -> set[int]:
    """Positions whose cut text is that of another text."""
    sources: dict[str, set[str]] = {}
    for text, short in zip(texts, cut, strict=True):
        sources.setdefault(short, set()).add(text)
    return {k for k, short in enumerate(cut) if len(sources[short]) > 1}


def _left(text: str, room: int) -> str:
    return text if columns(text) <= room else "…" + _tail(text, room - 1)


def _middle(text: str, room: int, share: float) -> str:
    if columns(text) <= room:
        return text
    head = max(int((room - 1) * share), 1)
    kept = ""
    for character in text:
        if columns(kept + character) > head:
            break
        kept += character
    return f"{kept}…{_tail(text, room - 1 - columns(kept))}"


def _tail(text: str, room: int) -> str:
    kept = ""
    for character in reversed(text):
        if columns(character + kept) > room:
            break
        kept = character + kept
    return kept
