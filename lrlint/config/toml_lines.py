"""Where a key stands in a TOML file: the parser gives values, an error message needs lines."""

from __future__ import annotations

import re

Key = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=\s*(.*)$""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_STRING = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|#.*$""")


def lines_of(text: str) -> dict[Key, int]:
    """Key → the line (from 1) of its header or assignment. Keys inside inline tables are found under their parent.

    >>> lines_of("[a]\\nb = 1\\n[[c]]\\nd = [\\n  1]\\n")
    {('a',): 1, ('a', 'b'): 2, ('c', 0): 3, ('c', 0, 'd'): 4}
    """
    found: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    table: Key = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        header, assignment = _HEADER.match(line), _ASSIGNMENT.match(line)
        if depth:
            depth += _brackets(line)
        elif header:
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            else:
                table = _resolved(table, counts)
            found.setdefault(table, number)
        elif assignment:
            found.setdefault((*table, *_parts(assignment[1])), number)
            depth = _brackets(assignment[2])
            quote = next((q for q in ('"""', "'''") if assignment[2].count(q) == 1), "")
    return found


def line_of(lines: dict[Key, int], key: Key) -> int | None:
    """The line of the key, or of the nearest table or value that holds it."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None


def _parts(text: str) -> Key:
    return tuple(part.strip("\"'") for part in _PART.findall(text))


def _resolved(table: Key, counts: dict[Key, int]) -> Key:
    """``[a.b]`` below ``[[a]]`` belongs to the last element of ``a``."""
    for size in range(len(table) - 1, 0, -1):
        if table[:size] in counts:
            return (*table[:size], counts[table[:size]], *table[size:])
    return table


def _brackets(text: str) -> int:
    bare = _STRING.sub("", text)
    return sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
