"""Text as markup: nothing that a name holds can become an element, an escape or a line of its own."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from markupsafe import Markup

from lrlint.reports.style import clean

_PAINTED = re.compile(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m", re.DOTALL)
_CLASSES = {"1": "bold", "2": "dim", "1;31": "error", "1;33": "warning", "1;34": "place", "36": "info"}


def cleaned(value: Any) -> Any:
    """What a template puts out: of text, control characters as escapes; the template escapes markup by itself."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value.replace("\t", "    "))
    return value


def prose(value: str) -> Markup:
    """Escaped text whose `quoted names` are set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(clean(" ".join(value.split())))))


def painted(text: str) -> Markup:
    """Terminal text with colours as escaped text with elements; only `Style.paint` writes escapes into it."""
    parts, last = [], 0
    for match in _PAINTED.finditer(text):
        parts += [
            escape(text[last : match.start()]),
            f'<span class="{_CLASSES.get(match[1], "dim")}">{escape(match[2])}</span>',
        ]
        last = match.end()
    return Markup("".join([*parts, escape(text[last:])]))
