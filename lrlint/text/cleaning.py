"""Text from outside (names, messages, tracebacks, paths) made fit to be shown: it cannot change what is around it.

Nothing in it acts on a terminal, hides, turns the order of what is read, breaks a line, or is a command to a CI runner.
By Unicode category, not by a list of characters that somebody thought of.
"""

from __future__ import annotations

import re
import unicodedata

#: Control and format characters (also tags and bidirectional marks), lone surrogates, line and paragraph separators.
_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
#: Characters of other categories that show nothing: fillers, a blank of Braille, vowels without a glyph, selectors of
#: variants. Source: DerivedCoreProperties.txt of the Unicode Character Database, Default_Ignorable_Code_Point.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SUSPECT = re.compile(r"[^\x20-\x7e]")
#: GitHub reads `::command::` where a line begins, after blanks too (and text may be wrapped anywhere), and `##[command]`
#: anywhere. Source: ActionCommand.cs of github.com/actions/runner.
_COMMAND = re.compile(r"(?:(?<=\s)|^):{2,}|##(?=\[)")
#: Words from this length on are cut (characters): a name of a megabyte is an attack or an accident.
_LONG = 1000
_WORD = re.compile(rf"\S{{{_LONG},}}")
_HEAD, _TAIL = 200, 80


def clean(text: str) -> str:
    """One line of text: what does not show, or would do something, is written as an escape; endless words are cut."""
    if len(text) >= _LONG:
        text = _WORD.sub(lambda m: f"{m[0][:_HEAD]}…{m[0][-_TAIL:]}", text)
    text = _SUSPECT.sub(_shown, text)
    return _COMMAND.sub(lambda m: " ".join(m[0]), text) if "::" in text or "##[" in text else text


def clean_lines(text: str) -> str:
    """Text of several lines (a traceback), each of them clean."""
    return "\n".join(clean(line.replace("\t", "    ")) for line in text.split("\n"))


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _CATEGORIES and not _INVISIBLE.match(character):
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
