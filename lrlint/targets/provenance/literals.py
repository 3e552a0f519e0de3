"""Know which literal a parameter group was written as: mark ``{"params": ...}`` while the user's modules are compiled.

torch keeps the very dict object it is given, so that its identity leads to the literal. In modules of the project the
expression ``{"params": ...}`` (or ``dict(params=...)``) is compiled as ``__lrlint_mark__({"params": ...}, n)``, which
returns its argument. Every node keeps its position: lines, tracebacks, docstrings and ``__future__`` imports stay as
they are. Nothing outside the project is touched, and what was compiled this way is never cached on disk.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import types
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from typing import Any

from lrlint.facts import Span
from lrlint.targets.provenance.project import Project, literal_span

NAME = "__lrlint_mark__"
_MENTIONS = re.compile(r"""(["'])params\1|\bparams\s*=""")


@dataclass(frozen=True, slots=True)
class Literal:
    """A group literal: the whole expression, and each key with its value."""

    span: Span
    key_spans: Mapping[str, Span]


#: Called with each dict that a marked expression made; empty unless something is being recorded.
listeners: list[Callable[[dict[str, Any], Literal], None]] = []

#: Change the tree of each of the project's modules before it is compiled: (tree, its text, relative path) → tree.
rewriters: list[Callable[[ast.Module, str, str], ast.Module]] = []


class Marker:
    """The function that a marked module calls: passes its argument on."""

    def __init__(self) -> None:
        self.literals: list[Literal] = []

    def __call__(self, value: Any, index: int) -> Any:
        if listeners and isinstance(value, dict):
            for listen in listeners:
                listen(value, self.literals[index])
        return value


class MarkingLoader(SourceFileLoader):
    """Loads a project module from its source with its group literals marked."""

    def __init__(self, fullname: str, path: str, project: Project, cached: bool = True) -> None:
        super().__init__(fullname, path)
        self._project = project
        self._cached = cached
        self._marker = Marker()

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__dict__[NAME] = self._marker
        return module

    def get_code(self, fullname: str) -> types.CodeType | None:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        try:
            text = importlib.util.decode_source(data)
            relative = self._project.relative(path)
            tree = mark(text, relative, self._marker.literals) if _MENTIONS.search(text) else None
            for rewrite in rewriters:
                tree = rewrite(tree or ast.parse(text, path), text, relative)
            if tree is not None:
                return self.source_to_code(tree, path)  # type: ignore[no-any-return,arg-type]
        except (SyntaxError, ValueError, RecursionError):
            pass  # what Python itself says about this source comes from the ordinary way below
        if self._cached:
            return super().get_code(fullname)
        return self.source_to_code(data, path)  # type: ignore[no-any-return]


class _Finder(MetaPathFinder):
    """Finds what the other finders find, and loads the project's own sources through a MarkingLoader."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if isinstance(finder, _Finder) or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if type(spec.loader) is SourceFileLoader and self._project.owns(spec.loader.path):
                    spec.loader = MarkingLoader(fullname, spec.loader.path, self._project)
                return spec
        return None


@contextmanager
def import_hook(project: Project) -> Iterator[None]:
    """Modules of the project that are imported in this block get their group literals marked."""
    finder = _Finder(project)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def mark(text: str, path: str, literals: list[Literal]) -> ast.Module | None:
    """The syntax tree with its group literals marked (and listed), or None where there are none."""
    tree = ast.parse(text, path)
    lines = text.split("\n")
    marked_lines = [number for number, line in enumerate(lines, 1) if _MENTIONS.search(line)]
    del literals[:]
    _Mark(path, lines, marked_lines, literals).visit(tree)
    return tree if literals else None


class _Mark(ast.NodeTransformer):
    """Wraps group literals; enters only what spans a line that mentions ``params``, and no annotation."""

    def __init__(self, path: str, lines: Sequence[str], wanted: Sequence[int], literals: list[Literal]) -> None:
        self._path, self._lines, self._wanted, self._literals = path, lines, wanted, literals

    def visit(self, node: ast.AST) -> Any:
        return super().visit(node) if self._may_hold(node) else node

    def _may_hold(self, node: ast.AST) -> bool:
        if not isinstance(node, (ast.stmt, ast.expr)):
            return True
        decorators = getattr(node, "decorator_list", ())
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        at = bisect_left(self._wanted, first)
        return at < len(self._wanted) and self._wanted[at] <= (node.end_lineno or node.lineno)

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        self.generic_visit(node)
        keys = {
            key.value: (key, value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
        return self._wrap(node, keys) if "params" in keys else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        named = {keyword.arg: (keyword, keyword.value) for keyword in node.keywords if keyword.arg}
        is_dict = isinstance(node.func, ast.Name) and node.func.id == "dict"
        return self._wrap(node, named) if is_dict and "params" in named else node

    def _wrap(self, node: ast.expr, keys: Mapping[str, tuple[ast.AST, ast.expr]]) -> ast.Call:
        spans = {name: literal_span(self._path, self._lines, key, value) for name, (key, value) in keys.items()}
        self._literals.append(Literal(literal_span(self._path, self._lines, node), spans))
        number = ast.copy_location(ast.Constant(len(self._literals) - 1), node)
        marker = ast.copy_location(ast.Name(NAME, ast.Load()), node)
        return ast.copy_location(ast.Call(marker, [node, number], []), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    # Annotations may be kept as text, and the parts of an f-string have no positions of their own before 3.12.
    visit_arg = visit_JoinedStr = visit_TypeAlias = visit_TemplateStr = _leave
