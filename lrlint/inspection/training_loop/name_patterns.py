"""The literals that loops over ``named_parameters()`` compare names with, tried on the names that the loop saw.

Only loops that ran while the target was built are read: their names are the ones the model had then, before or after
it was wrapped.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from lrlint.facts import Span
from lrlint.facts.source import NamePattern
from lrlint.inspection.training_loop.code import File, Scope, last
from lrlint.targets.provenance.project import literal_span
from lrlint.text.names import misses, selector

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_THROUGH = frozenset(("list", "tuple", "sorted", "dict", "reversed", "iter", "set", "tqdm"))
_GLOBS = frozenset(("fnmatch", "fnmatchcase"))
_REGEX = frozenset(("match", "search", "fullmatch"))


@dataclass(frozen=True)
class _Found:
    """A literal in a condition: how it is compared, its node, and the condition it belongs to."""

    kind: str
    text: str
    node: ast.AST
    condition: int


def name_patterns(file: File, scopes: Sequence[Scope], span: Span, seen: Sequence[Sequence[str]]) -> list[NamePattern]:
    """The patterns of the loops over the ``named_parameters()`` call at a span, with what they matched.

    ``seen`` are the names it gave, once for each time it ran. A literal matched if it did in any of these.
    """
    names = list(dict.fromkeys(name for run in seen for name in run))
    patterns = []
    for scope in scopes:
        for call in (n for n in scope.nodes if isinstance(n, ast.Call)):
            if last(call.func) == "named_parameters" and _stands_at(file, call, span):
                patterns += list(_Loops(scope, call).patterns())
    return [_tried(item, file, span, names) for item in patterns] if names else []


def _stands_at(file: File, call: ast.Call, span: Span) -> bool:
    if span.column is None:  # Python does not tell more than the line
        return call.lineno <= span.line <= (call.end_lineno or call.lineno)
    return literal_span(file.path, file.lines, call) == span


def _tried(pattern: _Found, file: File, walk: Span, names: Sequence[str]) -> NamePattern:
    select = selector(pattern.kind, pattern.text)
    matched = sum(map(select, names))
    lead, missed, nearest = ("", 0, "") if matched else misses(pattern.kind, pattern.text, names)
    span = literal_span(file.path, file.lines, pattern.node)
    return NamePattern(
        pattern.kind, pattern.text, span, walk, pattern.condition, len(names), matched, missed, lead, nearest
    )


class _Loops:
    """The loops over one call of ``named_parameters()`` in one function."""

    def __init__(self, scope: Scope, call: ast.Call) -> None:
        self._nodes = scope.nodes
        self._call = call
        self._bound = scope.visible

    def patterns(self) -> Iterator[_Found]:
        """Of every loop and comprehension whose loop variable is a name as the call gave it."""
        for node in self._nodes:
            if isinstance(node, ast.For) and (name := self._variable(node.iter, node.target)):
                yield from self._region(name, node.body)
            elif isinstance(node, _COMPREHENSIONS):
                for generator in node.generators:
                    if name := self._variable(generator.iter, generator.target):
                        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                        yield from self._region(name, [*generator.ifs, *values])

    def _variable(self, iterated: ast.expr, target: ast.expr) -> str:
        """The variable that holds the name, where a loop runs over the call's pairs."""
        if isinstance(iterated, ast.Call) and last(iterated.func) == "enumerate" and iterated.args:
            pair = isinstance(target, ast.Tuple) and len(target.elts) == 2
            return self._variable(iterated.args[0], target.elts[1]) if pair else ""  # type: ignore[attr-defined]
        if not self._is_walk(iterated):
            return ""
        if isinstance(target, ast.Tuple) and target.elts and isinstance(target.elts[0], ast.Name):
            return target.elts[0].id
        return ""

    def _is_walk(self, node: ast.AST | None, depth: int = 4) -> bool:
        if node is self._call:
            return True
        if node is None or depth == 0:
            return False
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "items":
                return self._is_walk(node.func.value, depth)
            return last(node.func) in _THROUGH and bool(node.args) and self._is_walk(node.args[0], depth)
        if isinstance(node, _COMPREHENSIONS) and len(node.generators) == 1:
            only = node.generators[0]
            made = node.key if isinstance(node, ast.DictComp) else node.elt
            kept = isinstance(node, ast.DictComp) or ast.unparse(made) == ast.unparse(only.target)
            first = only.target.elts[0] if isinstance(only.target, ast.Tuple) and only.target.elts else None
            whole = not isinstance(node, ast.DictComp) or (
                first is not None and ast.unparse(first) == ast.unparse(made)
            )
            return kept and whole and self._is_walk(only.iter, depth - 1)
        if isinstance(node, ast.Name):
            values = self._bound.get(node.id, ())
            return bool(values) and all(self._is_walk(value, depth - 1) for value in values)
        return False

    def _region(self, name: str, body: Sequence[Any]) -> Iterator[_Found]:
        nodes = [node for part in body for node in ast.walk(part)]
        if any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in nodes):
            return  # renamed on the way: what is compared is no longer the name that the model gave
        for node, condition in self._tests(body):
            yield from self._literals(name, node, condition)

    def _tests(self, body: Sequence[Any]) -> Iterator[tuple[ast.AST, int]]:
        """Expressions that decide about a name, each with a number that alternatives of one choice share."""
        for part in body:
            if isinstance(part, ast.expr):
                yield from _choices(part)
                continue
            for node in ast.walk(part):
                if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
                    yield from _choices(node.test)
                elif isinstance(node, (ast.Assign, ast.AnnAssign)) and not isinstance(
                    node.value, (ast.IfExp, NoneType)
                ):
                    yield from _choices(node.value)

    def _literals(self, name: str, test: ast.AST, condition: int) -> Iterator[_Found]:
        each: dict[str, list[ast.Constant]] = {}  # a comprehension's variable → the literals it stands for
        for node in ast.walk(test):
            if isinstance(node, ast.comprehension) and isinstance(node.target, ast.Name):
                each[node.target.id] = self._constants(node.iter)
        for node in ast.walk(test):
            for kind, compared in _comparisons(name, node):
                if isinstance(compared, ast.Name) and compared.id in each:
                    texts = each[compared.id]
                else:
                    texts = self._constants(compared, single=True)
                yield from (_Found(kind, str(text.value), text, condition) for text in texts if text.value)

    def _constants(self, node: ast.AST | None, single: bool = False, depth: int = 3) -> list[Any]:
        """The strings of a literal list, through the name it was bound to; none of them where one is not literal."""
        if single and isinstance(node, ast.Constant):
            return [node] if isinstance(node.value, str) else []
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            plain = all(isinstance(item, ast.Constant) and isinstance(item.value, str) for item in node.elts)
            return list(node.elts) if plain else []
        if isinstance(node, ast.Name) and depth:
            values = self._bound.get(node.id, ())
            return self._constants(values[0], single, depth - 1) if len(values) == 1 else []
        if isinstance(node, ast.Call) and last(node.func) == "compile" and node.args:
            return self._constants(node.args[0], True, depth - 1)
        return []


def _choices(test: ast.expr) -> Iterator[tuple[ast.AST, int]]:
    """The parts of a condition that hold for themselves; what must all be absent is one list, as is what may occur."""
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    absent = [part for part in parts if _denies(part)]
    for part in parts:
        leader = absent[0] if part in absent else part
        yield part, leader.lineno * 1000 + leader.col_offset


def _denies(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], (ast.NotIn, ast.NotEq))
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _comparisons(name: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(kind, what the name is compared with) of one comparison or call."""

    def is_name(item: ast.AST) -> bool:
        return isinstance(item, ast.Name) and item.id == name

    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right, operator = node.left, node.comparators[0], node.ops[0]
        if isinstance(operator, (ast.In, ast.NotIn)):
            if is_name(right):
                yield "contains", left
            elif is_name(left):
                yield "equal", right
            elif (part := _segment(left, is_name)) is not None:
                yield f"segment {part}", right
        elif isinstance(operator, (ast.Eq, ast.NotEq)):
            if is_name(left):
                yield "equal", right
            elif (part := _segment(left, is_name)) is not None:
                yield f"segment {part}", right
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        method, holder = node.func.attr, node.func.value
        if is_name(holder) and method in ("startswith", "endswith"):
            yield "prefix" if method == "startswith" else "suffix", node.args[0]
        elif method in _REGEX and len(node.args) > 1 and last(holder) in ("re", "regex") and is_name(node.args[1]):
            yield method, node.args[0]
        elif method in _REGEX and is_name(node.args[0]):
            yield method, holder
        elif method in _GLOBS and len(node.args) > 1 and is_name(node.args[0]):
            yield "glob", node.args[1]
    elif isinstance(node, ast.Call) and last(node.func) in _GLOBS and len(node.args) > 1 and is_name(node.args[0]):
        yield "glob", node.args[1]


def _segment(node: ast.AST, is_name: Any) -> int | None:
    """``k`` of ``name.split(".")[k]``."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call)):
        return None
    call = node.value
    splits = isinstance(call.func, ast.Attribute) and call.func.attr == "split" and is_name(call.func.value)
    dotted = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == "."
    index = node.slice
    if splits and dotted and isinstance(index, ast.Constant) and isinstance(index.value, int) and index.value >= 0:
        return index.value
    return None


def walks_of(seen: Sequence[tuple[Span, Sequence[str]]]) -> Mapping[Span, list[Sequence[str]]]:
    """The names that each call gave, by where it stands."""
    walks: dict[Span, list[Sequence[str]]] = {}
    for span, names in seen:
        walks.setdefault(span, []).append(names)
    return walks
