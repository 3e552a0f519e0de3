"""The calls that make a training step, in the order in which a function and those it calls make them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

from lrlint.facts.source import SourceCall
from lrlint.inspection.training_loop.call_kinds import Kinds
from lrlint.inspection.training_loop.code import Code, File, Scope, calls_in, last
from lrlint.targets.provenance.project import literal_span

#: Calls of one function, with those it calls: more is no training loop that somebody reads.
_MOST = 400
_MANAGERS = frozenset(("accelerator", "fabric", "deepspeed", "model_engine", "ds_engine", "booster"))
_MANAGING = frozenset(("Accelerator", "Fabric", "Booster"))
#: A loop over these runs through the parts of one step, it repeats no step.
_PARTS = re.compile(
    r"(optim\w*s|opts|sched\w*s|param_groups|(optim\w*|opt|sched\w*)_(list|dict|groups))$", re.IGNORECASE
)
_JUMPS = (ast.Continue, ast.Break, ast.Return, ast.Raise)
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip


class Reader:
    """Reads functions, each once however often it is called; a function that is on its way is not entered again."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self._known: dict[int, tuple[SourceCall, ...]] = {}

    def calls(self, scope: Scope) -> tuple[SourceCall, ...]:
        """The calls of a function and, in their places, those of the project's functions it calls."""
        if id(scope.node) not in self._known:
            self._known[id(scope.node)] = ()
            if self._concerns(scope):
                self._known[id(scope.node)] = tuple(islice(_Body(self, scope).block(scope.node.body, (), ()), _MOST))
        return self._known[id(scope.node)]

    def _concerns(self, scope: Scope) -> bool:
        """Whether the function calls anything of a training step, or a function of the project that may."""
        made = [node for node in scope.nodes if isinstance(node, ast.Call)]
        return any(_kinds_of(scope.file).may_concern(call) or self.code.called(scope, call) for call in made)


@lru_cache(maxsize=16)
def _kinds_of(file: File) -> Kinds:
    """How calls are told apart in a file."""
    return Kinds(file)


class _Body:
    """The statements of one function."""

    def __init__(self, reader: Reader, scope: Scope) -> None:
        self._reader, self._scope = reader, scope
        self._kinds = _kinds_of(scope.file)
        self._managed = _is_managed(scope.nodes)

    def block(self, body: Sequence[ast.stmt], loops: tuple[int, ...], guards: tuple[str, ...]) -> Iterator[SourceCall]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
                yield from self._loop(node, loops, guards)
            elif isinstance(node, ast.If):
                yield from self._calls(node.test, loops, guards)
                yield from self.block(node.body, loops, (*guards, *self._conditions(node.test)))
                otherwise = (*guards, *self._conditions(node.test, False))
                yield from self.block(node.orelse, loops, otherwise)
                if isinstance(node.body[-1], _JUMPS):
                    guards = otherwise
            elif isinstance(node, (ast.With, ast.AsyncWith)):
                for item in node.items:
                    yield from self._calls(item, loops, guards)
                quiet = any("catch_warnings" in ast.unparse(item) for item in node.items)
                yield from self.block(node.body, loops, (*guards, *(("warnings are caught",) if quiet else ())))
            elif isinstance(node, ast.Try):
                for part in (node.body, node.orelse):
                    yield from self.block(part, loops, guards)
                for handler in node.handlers:
                    yield from self.block(handler.body, loops, (*guards, f"except at {handler.lineno}"))
                yield from self.block(node.finalbody, loops, guards)
            elif isinstance(node, ast.Match):
                for case in node.cases:
                    yield from self.block(case.body, loops, (*guards, f"case {ast.unparse(case.pattern)}"))
            else:
                yield from self._calls(node, loops, guards)

    def _loop(self, node: Any, loops: tuple[int, ...], guards: tuple[str, ...]) -> Iterator[SourceCall]:
        if isinstance(node, ast.While):
            yield from self._calls(node.test, loops, guards)
        elif _over_parts(node.iter):
            yield from self.block(node.body, loops, guards)
            return
        else:
            yield from self._calls(node.iter, loops, guards)
        yield from self.block(node.body, (*loops, node.lineno), ())
        yield from self.block(node.orelse, loops, guards)

    def _calls(self, node: ast.AST, loops: tuple[int, ...], guards: tuple[str, ...]) -> Iterator[SourceCall]:
        for call in calls_in(node):
            for argument in call.args:  # a closure runs within the step that it is given to
                if (inner := self._given(call, argument)) is not None:
                    yield from self._enter(inner, loops, guards)
            inside = self._reader.code.called(self._scope, call)
            if inside is not None:
                yield from self._enter(inside, loops, guards)
            elif (kind := self._kinds.of(call, self._scope.bound)) is not None:
                yield SourceCall(
                    kind.kind,
                    kind.receiver,
                    literal_span(self._scope.file.path, self._scope.file.lines, call),
                    self._scope.label,
                    loops,
                    (*guards, *kind.conditions),
                    bool(call.args or call.keywords),
                    self._managed,
                    covers=kind.covers,
                    scaled=kind.scaled,
                )

    def _given(self, call: ast.Call, argument: ast.expr) -> Scope | None:
        """The function that a call is given to run: a closure, or what `Module.apply` runs on every module."""
        if not isinstance(argument, ast.Name):
            return None
        functions = self._scope.file.functions
        if last(call.func) == "apply" and argument.id in functions:
            return self._scope.file.scope(functions[argument.id])
        return self._scope.inner.get(argument.id)

    def _enter(self, scope: Scope, loops: tuple[int, ...], guards: tuple[str, ...]) -> Iterator[SourceCall]:
        for call in self._reader.calls(scope):
            yield replace(
                call,
                function=self._scope.label,
                loops=(*loops, *call.loops),
                guards=call.guards if call.loops else (*guards, *call.guards),
                managed=call.managed or self._managed,
            )

    def _conditions(self, test: ast.expr, holds: bool = True, flag: bool = False) -> tuple[str, ...]:
        """The conditions that hold where a test came out so; a flag is given by the comparison it was set to."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._conditions(test.operand, not holds, flag)
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) == holds:
            return tuple(part for value in test.values for part in self._conditions(value, holds, flag))
        if isinstance(test, (ast.Name, ast.Attribute)) and not flag:
            values = self._scope.bound.get(ast.unparse(test), [])
            if len(values) == 1 and isinstance(values[0], (ast.Compare, ast.BoolOp)):
                return self._conditions(values[0], holds, True)
        if holds:
            return (ast.unparse(test),)
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            opposite = ast.Compare(test.left, [_OPPOSITE[type(test.ops[0])]()], test.comparators)
            return (ast.unparse(opposite),)
        return (f"not ({ast.unparse(test)})",)


def _is_managed(nodes: Sequence[Any]) -> bool:
    """Whether a library takes the steps of this function."""
    return any(isinstance(n, (ast.Name, ast.Attribute)) and last(n) in _MANAGERS | _MANAGING for n in nodes)


def _over_parts(iterated: ast.expr) -> bool:
    if isinstance(iterated, ast.Call):
        if isinstance(iterated.func, ast.Attribute) and iterated.func.attr in ("values", "items"):
            return _over_parts(iterated.func.value)
        if last(iterated.func) in ("zip", "enumerate", "list", "reversed"):
            return any(_over_parts(part) for part in iterated.args)
    if isinstance(iterated, (ast.Tuple, ast.List)):
        return bool(iterated.elts) and all(re.search("opt|sched", last(part), re.IGNORECASE) for part in iterated.elts)
    return isinstance(iterated, (ast.Name, ast.Attribute)) and _PARTS.search(last(iterated)) is not None
