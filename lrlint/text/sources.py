"""Source text for code frames and suppression comments: any encoding, and files that are not on disk."""

from __future__ import annotations

import ast
import io
import linecache
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path


class SourceFile:
    """The lines of one file, and which lines make up each statement."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.lines = text.splitlines()

    def statement(self, line: int) -> tuple[int, int]:
        """(first, last) line of the innermost simple statement, or header of a compound one, around a line."""
        return self._statements.get(line, (line, line))

    def comments(self) -> Iterator[tuple[int, int, bool, str]]:
        """(line, column, whether it stands alone, text) of each comment, up to where the file cannot be read."""
        try:
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
                if token.type == tokenize.COMMENT:
                    line, offset = token.start
                    yield line, offset + 1, not token.line[:offset].strip(), token.string
        except (tokenize.TokenError, SyntaxError):
            return

    @cached_property
    def _statements(self) -> dict[int, tuple[int, int]]:
        try:
            tree = ast.parse(self.text)
        except (SyntaxError, ValueError, RecursionError):
            return {}
        range_of: dict[int, tuple[int, int]] = {}
        for node in ast.walk(tree):  # outer statements come first, inner ones overwrite them
            if not isinstance(node, ast.stmt):
                continue
            first, last = _first_line(node), node.end_lineno or node.lineno
            if body := getattr(node, "body", None):
                last = self._end_of_header(node.lineno, _first_line(body[0]) - 1)
            range_of.update(dict.fromkeys(range(first, last + 1), (first, last)))
        return range_of

    def _end_of_header(self, first: int, last: int) -> int:
        """The last line before the body that holds code: comments there belong to the body."""
        while last > first and not self.lines[last - 1].partition("#")[0].strip():
            last -= 1
        return max(first, last)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


class Sources:
    """Source files by the path that a span gives, relative to a root folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path.cwd()
        self._files: dict[str, SourceFile | None] = {}

    def get(self, path: str) -> SourceFile | None:
        """The file, or None where there is no text to be had."""
        if path not in self._files:
            text = _read(self.root / path)
            if text is None:  # a notebook cell, or code from a string
                with suppress(ValueError):  # no path at all
                    text = "".join(linecache.getlines(path)) or None
            self._files[path] = None if text is None else SourceFile(path, text)
        return self._files[path]


def _read(path: Path) -> str | None:
    try:
        if not path.is_file():  # a pipe or a device may never end
            return None
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return data.decode("utf-8", "replace")
