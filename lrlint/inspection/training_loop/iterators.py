"""One-shot iterators that are bound to a name once and used up more than once."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrlint.facts.source import SourceCall
from lrlint.inspection.training_loop.call_kinds import is_clip_name, is_optimizer_class
from lrlint.inspection.training_loop.code import File, Function, Scope, bindings, label_of, last, own
from lrlint.targets.provenance.project import literal_span

_ONE_SHOT = frozenset(("filter", "map", "parameters", "named_parameters"))
_CONSUMERS = frozenset(("list", "tuple", "sorted", "set", "dict", "sum"))
_BRANCHES = (ast.If, ast.IfExp, ast.Try, ast.Match)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def reused(scope: Scope) -> Iterator[SourceCall]:
    """Iterators of one function that something used up before, in plain sequence or in the loop's earlier round."""
    nodes = scope.nodes
    for name, value in _bound_once(scope.bound if _any_one_shot(nodes) else {}, scope.file):
        if any(isinstance(node, _BRANCHES) and _holds(node, name) for node in nodes):
            continue
        uses = _consumptions(nodes, name)
        while uses and _may_stop(uses[0], nodes):  # what comes next goes on where that loop stopped
            uses = uses[1:]
        repeated = []
        if "parameters" in ast.unparse(value):  # data may well be read on in every round
            inner = [use for use in uses if not any(isinstance(n, ast.For) and n.iter is use for n in nodes)]
            repeated = [
                use
                for use in inner
                if any(_within(use, n) and not _within(value, n) for n in nodes if isinstance(n, _LOOPS))
            ]
        if len(uses) > 1:
            yield _used(scope.file, name, uses[1], uses[0], scope.label)
        elif repeated:
            yield _used(scope.file, name, repeated[0], repeated[0], scope.label)


def reused_attributes(file: File) -> Iterator[SourceCall]:
    """Iterators that an object keeps: used up where they are bound, and used again by another of its methods."""
    for owner in file.classes.values():
        methods = [Scope(file, node, owner) for node in owner.body if isinstance(node, Function)]
        everything = [node for method in methods for node in method.nodes]
        bound = bindings(everything) if _any_one_shot(everything) else {}
        for name, value in _bound_once(bound, file):
            home = next(method for method in methods if value in method.nodes)
            first = [use for use in _consumptions(home.nodes, name) if use.lineno > value.lineno]
            rest = [node for method in methods if method is not home for node in method.nodes]
            later = _consumptions(rest, name)
            branched = any(isinstance(node, _BRANCHES) and _holds(node, name) for node in home.nodes)
            if name.startswith("self.") and first and later and not branched:
                yield _used(file, name, later[0], first[0], label_of(file, owner))


def _any_one_shot(nodes: Sequence[Any]) -> bool:
    values = (node.value for node in nodes if isinstance(node, (ast.Assign, ast.AnnAssign)))
    return any(
        isinstance(v, ast.GeneratorExp) or (isinstance(v, ast.Call) and last(v.func) in _ONE_SHOT) for v in values
    )


def _used(file: File, name: str, use: Any, first: Any, label: str) -> SourceCall:
    spans = [literal_span(file.path, file.lines, node) for node in (use, first)]
    return SourceCall("iterator", name, spans[0], label, first=spans[1])


def _bound_once(bound: Mapping[str, Sequence[ast.AST | None]], file: File) -> Iterator[tuple[str, Any]]:
    """Names and attributes that are bound in one place, to a one-shot iterator."""
    for name, values in bound.items():
        if len(values) == 1 and values[0] is not None and _is_one_shot(values[0], file):
            yield name, values[0]


def _is_one_shot(value: ast.AST, file: File) -> bool:
    if isinstance(value, ast.GeneratorExp):
        return True
    if not isinstance(value, ast.Call) or last(value.func) not in _ONE_SHOT:
        return False
    name = last(value.func)
    method = name in ("parameters", "named_parameters")
    return isinstance(value.func, ast.Attribute) == method and not (method and _returns_list(file, name))


def _returns_list(file: File, name: str) -> bool:
    """Whether a class of the file has a method of this name that does not yield: it may return a list."""
    methods = [n for owner in file.classes.values() for n in owner.body if isinstance(n, ast.FunctionDef)]
    own_ones = [method for method in methods if method.name == name]
    return any(not any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in own(method)) for method in own_ones)


def _may_stop(use: ast.AST, nodes: Sequence[Any]) -> bool:
    """Whether a use is a loop that may end early."""
    loops = (node for node in nodes if isinstance(node, ast.For) and node.iter is use)
    return any(isinstance(n, (ast.Break, ast.Return)) for loop in loops for n in own(loop))


def _within(node: Any, loop: Any) -> bool:
    """Whether a node stands in what a loop repeats (a ``for`` evaluates what it iterates over once)."""
    if not loop.body[0].lineno <= node.lineno <= (loop.body[-1].end_lineno or loop.lineno):
        return False
    last_one = loop.body[-1]  # a loop that ends in its first round repeats nothing
    return not isinstance(last_one, (ast.Break, ast.Return))


def _consumptions(nodes: Sequence[Any], name: str) -> list[Any]:
    """Where an iterator is used up: loops, comprehensions, optimizers, parameter groups, clipping, list() and such."""
    return sorted(_uses(nodes, name), key=lambda use: (use.lineno, use.col_offset))


def _uses(nodes: Sequence[Any], name: str) -> Iterator[Any]:
    def is_it(node: ast.AST | None) -> bool:
        return isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) == name

    for node in nodes:
        if isinstance(node, (ast.For, ast.comprehension)) and is_it(node.iter):
            yield node.iter
        elif isinstance(node, ast.Dict):
            yield from (v for k, v in zip(node.keys, node.values, strict=True) if is_it(v) and _is_params(k))
        elif isinstance(node, ast.Call):
            called = last(node.func)
            if called in _CONSUMERS or is_clip_name(called) or is_optimizer_class(called):
                arguments = [*node.args[:1], *(w.value for w in node.keywords if w.arg in ("params", "parameters"))]
                yield from (argument for argument in arguments if is_it(argument))


def _is_params(key: ast.AST | None) -> bool:
    return isinstance(key, ast.Constant) and key.value == "params"


def _holds(node: ast.AST, name: str) -> bool:
    kinds = (ast.Name, ast.Attribute)
    return any(isinstance(n, kinds) and ast.unparse(n) == name for n in ast.walk(node))
