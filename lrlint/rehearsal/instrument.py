"""Rewrite the loops of a source so that each tells which iteration it is in.

``for x in y`` runs over ``over(y, site)``, ``while c`` tests ``tick(site) and c`` between ``enter`` and ``leave``. Every
node keeps its position: tracebacks and spans are those of the file. Comprehensions and ``async for`` are left alone.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from contextlib import contextmanager

from lrlint.rehearsal.loops import Guard, Loops
from lrlint.targets.provenance.project import literal_span

_NAMES = {"over": "__lrlint_over__", "measure": "__lrlint_measure__", "enter": "__lrlint_enter__"}
_NAMES |= {"tick": "__lrlint_tick__", "leave": "__lrlint_leave__"}

#: Calls around an iterable that pass it through, item by item.
_THROUGH = frozenset({"enumerate", "zip", "reversed", "islice", "tqdm", "trange", "track", "log_every", "iter"})


def rewrite(tree: ast.Module, path: str, lines: list[str], loops: Loops) -> ast.Module:
    """The tree with its loops instrumented; ``path`` is relative to the project, as spans give it."""
    return ast.fix_missing_locations(_Rewriter(path, lines, loops).visit(tree))  # type: ignore[no-any-return]


@contextmanager
def callable_from_sources(loops: Loops) -> Iterator[None]:
    """The names that rewritten sources call, for the time of this block."""
    for method, name in _NAMES.items():
        setattr(builtins, name, getattr(loops, method))
    try:
        yield
    finally:
        for name in _NAMES.values():
            if hasattr(builtins, name):
                delattr(builtins, name)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, path: str, lines: list[str], loops: Loops) -> None:
        self._path, self._lines, self._loops = path, lines, loops

    def visit_If(self, node: ast.If) -> ast.If:
        self.generic_visit(node)
        if any(isinstance(part, ast.Compare) and _orders(part) for part in ast.walk(node.test)):
            self._loops.guards.append(Guard(self._path, node.body[0].lineno, node.end_lineno or node.lineno))
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        site = self._site(node, node.iter)
        node.iter = self._call("over", node.iter, self._measured(node.iter), site)
        return node

    def visit_While(self, node: ast.While) -> ast.Try:
        self.generic_visit(node)
        site = self._site(node, node.test)
        tick = self._call("tick", node.test, site)
        node.test = ast.copy_location(ast.BoolOp(ast.And(), [tick, node.test]), node.test)
        enter = ast.copy_location(ast.Expr(self._call("enter", node, site)), node)
        leave = ast.copy_location(ast.Expr(self._call("leave", node, site)), node)
        return ast.copy_location(ast.Try([enter, node], [], [], [leave]), node)

    def _site(self, node: ast.stmt, header: ast.expr) -> ast.Constant:
        span = literal_span(self._path, self._lines, node, header)
        return ast.copy_location(ast.Constant(self._loops.site(span)), header)

    def _measured(self, iterable: ast.expr) -> ast.expr:
        """The iterable, with what stands inside `enumerate(...)` and the like measured as it is evaluated."""
        if not isinstance(iterable, ast.Call) or not iterable.args:
            return iterable
        name = iterable.func.id if isinstance(iterable.func, ast.Name) else getattr(iterable.func, "attr", "")
        if name not in _THROUGH:
            return iterable
        inner = len(iterable.args) if name == "zip" else 1
        for position, argument in enumerate(iterable.args[:inner]):
            if not isinstance(argument, ast.Starred):
                iterable.args[position] = self._call("measure", argument, self._measured(argument))
        return iterable

    def _call(self, method: str, at: ast.AST, *arguments: ast.expr) -> ast.Call:
        function = ast.copy_location(ast.Name(_NAMES[method], ast.Load()), at)
        return ast.copy_location(ast.Call(function, list(arguments), []), at)


def _orders(compare: ast.Compare) -> bool:
    """Whether it asks which of two is larger: such a condition holds up to a point, or from there on."""
    return any(isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for operator in compare.ops)
