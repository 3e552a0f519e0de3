"""The user's source: which files are the user's, and the span that a running call or a definition has in them."""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import sysconfig
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import lrlint
from lrlint.facts import Span

_MARKERS = ("pyproject.toml", ".git", "lrlint.toml")
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STDLIB = os.path.realpath(sysconfig.get_paths()["stdlib"])
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LRLINT = os.path.dirname(os.path.abspath(lrlint.__file__))
#: Their wrappers stand between frames of the user's code.
_RECORDERS = (
    os.path.join(_LRLINT, "inspection", "spans.py"),
    os.path.join(_LRLINT, "inspection", "forward_inputs.py"),
    os.path.join(_LRLINT, "rehearsal", ""),
)
_SHIPPED = tuple(os.path.join(_LRLINT, folder, "") for folder in ("fixtures", "rules"))  # users' doors, in a wheel


def project_root(start: Path) -> Path | None:
    """The nearest folder, from ``start`` upward, that has a pyproject.toml, lrlint.toml or .git."""
    folder = start.resolve()
    return next((f for f in (folder, *folder.parents) if any((f / marker).exists() for marker in _MARKERS)), None)


def root_for(file: Path | None) -> Path:
    """The project root of a target: the working directory's project if the file lies in it, else the file's own."""
    cwd = Path.cwd()
    root = project_root(cwd) or cwd.resolve()
    if file is None or file.resolve().is_relative_to(root):
        return root
    return project_root(file.parent) or file.parent.resolve()


class Project:
    """The files under ``root`` that the user wrote: not those of an environment, the standard library or lrlint."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._under: dict[str, bool] = {}
        self._library: dict[str, bool] = {}

    def owns(self, filename: str) -> bool:
        """Whether the file belongs to the project."""
        known = self._under.get(filename)
        if known is None:
            known = self._under[filename] = not self.is_library(filename) and self._is_under(filename)
        return known

    def is_library(self, filename: str) -> bool:
        """Whether the file was installed, generated, or belongs to Python or lrlint (so that nobody edits it)."""
        known = self._library.get(filename)
        if known is None:
            known = self._library[filename] = self._looks_installed(filename)
        return known

    def _is_under(self, filename: str) -> bool:
        return Path(os.path.realpath(filename)).is_relative_to(self.root)

    def _looks_installed(self, filename: str) -> bool:
        if not os.path.isabs(filename):  # <string>, <frozen importlib>, <ipython-input-1>, <fx>.0
            return True
        if _inside(filename, _LRLINT):
            return not filename.startswith(_SHIPPED)
        path = os.path.realpath(filename)
        if _inside(path, str(self.root)):  # a root inside an environment stays a project
            return not _INSTALLED.isdisjoint(Path(path).relative_to(self.root).parts) or _inside(path, _STDLIB)
        return not _INSTALLED.isdisjoint(Path(path).parts) or _inside(path, _STDLIB) or not os.path.exists(path)

    def relative(self, filename: str) -> str:
        """The path as spans give it: relative to the root, with POSIX separators."""
        path = os.path.realpath(filename)
        try:
            return Path(os.path.relpath(path, self.root)).as_posix()
        except ValueError:  # another drive
            return Path(path).as_posix()

    def call_span(self, frame: FrameType | None, skip: Any = None) -> Span | None:
        """Where the project called into the library code that ``frame`` is in.

        Frames whose first argument is ``skip`` (methods of the object under construction) are passed over, so that the
        span is the call that creates it. Code outside the root counts only where no frame lies under it.
        """
        elsewhere: FrameType | None = None
        while frame is not None:
            filename = frame.f_code.co_filename
            if _is_boundary(filename):  # lrlint called the user's code from here: what lies outside is not its doing
                break
            if not self.is_library(filename) and not (skip is not None and _is_method_of(frame, skip)):
                if self.owns(filename):
                    return self.frame_span(frame)
                elsewhere = elsewhere or frame
            frame = frame.f_back
        return None if elsewhere is None else self.frame_span(elsewhere)

    def frame_span(self, frame: FrameType, lasti: int | None = None, line: int | None = None) -> Span:
        """The expression a frame is executing; only its line where Python does not know more (before 3.11).

        ``lasti`` and ``line`` are given for a frame of a traceback, which may have moved on.
        """
        code, filename = frame.f_code, frame.f_code.co_filename
        line = line or frame.f_lineno
        region = _region(code, frame.f_lasti if lasti is None else lasti)
        if region is None:
            return Span(self.relative(filename), line)
        first, last, start, stop = region
        if stop <= start and last == first:
            return Span(self.relative(filename), first)
        return Span(
            self.relative(filename),
            first,
            _characters(linecache.getline(filename, first, frame.f_globals), start) + 1,
            last,
            _characters(linecache.getline(filename, last, frame.f_globals), stop) + 1,
        )

    def definition(self, item: Any) -> Span | None:
        """The name in the ``def`` or ``class`` statement of a function, method or class; None where no source is."""
        item = inspect.unwrap(item) if callable(item) else item
        item = getattr(item, "__func__", item)
        item = getattr(item, "func", item) if not hasattr(item, "__qualname__") else item  # functools.partial
        try:
            filename = inspect.getsourcefile(item) or ""
            name = item.__qualname__
        except (TypeError, AttributeError):
            return None
        if self.is_library(filename):
            return None
        lines = linecache.getlines(filename)
        for node in _definitions(lines, name.rsplit("<locals>.", 1)[-1].rsplit(".", 1)[-1]):
            code = getattr(item, "__code__", None)
            if code is None or code.co_firstlineno in range(_first_line(node), node.lineno + 1):
                return self._name_span(filename, lines[node.lineno - 1], node)
        return None

    def binding(self, filename: str, name: str) -> Span | None:
        """Where a module of the user's gives something a name (``a.b``: the name ``a``); its last line that does."""
        if not filename or self.is_library(filename):
            return None
        lines = linecache.getlines(filename)
        bindings = [node for node in ast.walk(_parse(lines)) if _binds(node, name.partition(".")[0])]
        path = self.relative(filename)
        spans = [
            self._name_span(filename, lines[node.lineno - 1], node)
            if isinstance(node, _DEFINITIONS)
            else literal_span(path, lines, node)
            for node in bindings
        ]
        return max(spans, key=lambda span: span.line, default=None)

    def keywords(self, call: Span) -> dict[str, Span]:
        """Where each keyword argument of a call stands, by name; empty where the source does not tell."""
        lines = linecache.getlines(str(self.root / call.path))
        for node in ast.walk(_parse(lines)):
            if isinstance(node, ast.Call) and literal_span(call.path, lines, node) == call:
                return {word.arg: literal_span(call.path, lines, word) for word in node.keywords if word.arg}
        return {}

    def _name_span(self, filename: str, text: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Span:
        start = _characters(text, node.col_offset)
        stop = text.find(node.name, start) + len(node.name)
        return Span(self.relative(filename), node.lineno, start + 1, node.lineno, stop + 1)


def literal_span(path: str, lines: Sequence[str], node: ast.AST, end: ast.AST | None = None) -> Span:
    """The span of a syntax node (up to the end of another, where given) in a source that has these lines."""
    last: Any = end or node
    first: Any = node
    return Span(
        path,
        first.lineno,
        _characters(lines[first.lineno - 1], first.col_offset) + 1,
        last.end_lineno,
        _characters(lines[last.end_lineno - 1], last.end_col_offset) + 1,
    )


def is_recorder(filename: str) -> bool:
    """Whether the file is lrlint's, and what it wraps was called by the user's code."""
    return filename.startswith(_RECORDERS)


def _is_boundary(filename: str) -> bool:
    return filename.startswith(_LRLINT + os.sep) and not filename.startswith((*_RECORDERS, *_SHIPPED))


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _is_method_of(frame: FrameType, item: Any) -> bool:
    code = frame.f_code
    return bool(code.co_argcount) and frame.f_locals.get(code.co_varnames[0]) is item


def _region(code: CodeType, lasti: int) -> tuple[int, int, int, int] | None:
    """(first line, last line, start, stop) of the instruction, in UTF-8 bytes; None where unknown."""
    if not hasattr(code, "co_positions") or lasti < 0:
        return None
    first, last, start, stop = next(islice(code.co_positions(), lasti // 2, None), (None, None, None, None))
    if first is None or last is None or start is None or stop is None:
        return None
    return first, last, start, stop


def _characters(line: str, offset: int) -> int:
    """A column in characters, from one in UTF-8 bytes."""
    return offset if line.isascii() else len(line.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "replace"))


@lru_cache(maxsize=16)
def syntax_tree(text: str) -> ast.Module | None:
    """The tree of a source, shared by all who read it (nobody may change it); None where it is no Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _parse(lines: Sequence[str]) -> ast.Module:
    return syntax_tree("".join(lines)) or ast.Module([], [])


def _definitions(lines: Sequence[str], name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(_parse(lines)):
        if isinstance(node, _DEFINITIONS) and node.name == name:
            yield node


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.alias):
        return (node.asname or node.name.partition(".")[0]) == name
    if isinstance(node, _DEFINITIONS):
        return node.name == name
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
