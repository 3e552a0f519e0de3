"""Text for terminals: width as displayed, colour only when asked, nothing that a name could inject."""

from __future__ import annotations

import textwrap
import unicodedata
from dataclasses import dataclass

from lrlint.text.cleaning import clean as clean

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "1;31",
    "yellow": "1;33",
    "blue": "1;34",
    "cyan": "36",
    "green": "32",
    "magenta": "35",
}
SEVERITY_COLOUR = {"error": "red", "warning": "yellow", "info": "cyan"}


@dataclass(frozen=True)
class Style:
    """How text is laid out: total width in columns, whether colour escapes are written, and whether links are.

    A link is an OSC 8 escape (https://gist.github.com/egmontkob/eb114294efbcd5adb1944c9f3cb5feda): terminals that do
    not know it show the text alone.
    """

    width: int = 100
    colour: bool = False
    links: bool = False

    def link(self, text: str, address: str) -> str:
        return f"\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\" if self.links and address else text

    def paint(self, text: str, name: str) -> str:
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.colour and text else text


def columns(text: str) -> int:
    """How many columns a terminal uses for the text."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def wrap(text: str, width: int, indent: str = "", first: str | None = None) -> str:
    """Paragraph text in lines of at most ``width`` columns; names and numbers are never broken."""
    return textwrap.fill(
        clean(text),
        max(width, 40),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def shorten(text: str, width: int) -> str:
    """At most ``width`` columns, with an ellipsis in place of what was cut."""
    if columns(text) <= width:
        return text
    kept = ""
    for character in text:
        if columns(kept + character) > width - 1:
            break
        kept += character
    return kept + "…"
