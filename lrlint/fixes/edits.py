"""Edits of source text: regions to replace, applied together, shown as a diff."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lrlint.facts import Span


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Replace the characters ``start`` to ``end`` (exclusive, counted in the whole text) by ``text``."""

    start: int
    end: int
    text: str


class Source:
    """A file's text with its syntax tree, and where its nodes stand in it. Raises SyntaxError."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def region(self, node: ast.AST) -> tuple[int, int]:
        """(start, end) of an expression or statement, in characters."""
        assert isinstance(node, (ast.expr, ast.stmt, ast.keyword))
        return (
            self._at(node.lineno, node.col_offset),
            self._at(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset),
        )

    def _at(self, line: int, offset: int) -> int:
        """A position of the tree, whose columns count the bytes of UTF-8."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:offset].decode(errors="replace"))

    def position(self, span: Span) -> int:
        """Where a span begins."""
        return self._starts[span.line - 1] + (span.column or 1) - 1

    def segment(self, node: ast.AST) -> str:
        start, end = self.region(node)
        return self.text[start:end]

    def call(self, span: Span) -> ast.Call | None:
        """The call that a span is of."""
        start = self.position(span) if span.line < len(self._starts) else -1
        calls = (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))
        return next((node for node in calls if self.region(node)[0] == start), None)

    def function(self, start: int, end: int) -> ast.AST:
        """The innermost function around a region, or the module."""
        found: ast.AST = self.tree
        for outer in ast.walk(self.tree):
            if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first, last = self.region(outer)
                if first <= start and end <= last:
                    found = outer  # `walk` meets outer functions first
        return found

    def replace(self, node: ast.AST, text: str) -> Edit:
        return Edit(*self.region(node), text)


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; equal ones are made once."""
    for edit in sorted(set(edits), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def diff(path: str, before: str, after: str) -> str:
    """A unified diff as `git apply` reads it; "" where nothing differs."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def changed_lines(before: str, after: str) -> list[int]:
    """The lines of ``before`` that an edit touches (an insertion touches the line it stands after)."""
    old, new = before.splitlines(), after.splitlines()
    touched: list[int] = []
    for tag, first, last, _, _ in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            touched += range(first + 1, max(last, first + 1) + 1)
    return touched


def same(edits: Sequence[Edit]) -> bool:
    """Whether the edits change nothing or overlap, so that they cannot be made together."""
    ordered = sorted(set(edits))
    return not ordered or any(b.start < a.end for a, b in pairwise(ordered))
