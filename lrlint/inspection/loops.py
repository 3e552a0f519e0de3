"""Read the training loop: which steps it takes, in which order, under which conditions. Nothing is run."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lrlint.facts import Note, Span
from lrlint.facts.source import SourceCall, SourceFacts
from lrlint.inspection.source import Project, literal_span

if TYPE_CHECKING:
    from lrlint.inspection.built import Built

#: A longer file is generated, or no training script.
_LONGEST = 20_000
_MANAGERS = frozenset(("accelerator", "fabric", "deepspeed", "model_engine", "ds_engine", "booster"))
_SCHEDULERS = re.compile(r"(LR|LRScheduler|Scheduler|Restarts|OnPlateau)$|^get_(\w+_)?(schedule\w*|scheduler)$")
_OPTIMIZERS = re.compile(
    r"^(SGD|ASGD|Adam\w*|NAdam|RAdam|RMSprop|Adagrad|Adadelta|Adafactor|Lion|LBFGS|Muon|LAMB|LARS)$"
)
_CLIPS = frozenset(("clip_grad_norm_", "clip_grad_value_"))
_CLIPPERS = frozenset(("", "utils", "nn.utils", "torch.nn.utils"))
_ONE_SHOT = frozenset(("filter", "map", "parameters", "named_parameters"))
_CONSUMERS = frozenset(("list", "tuple", "sorted", "set", "dict", "sum"))


def read(built: Built) -> tuple[SourceFacts | None, list[Note]]:
    """The calls in the declared ``train`` function, else in the files where the target and its optimizers stand."""
    root = built.recording.root
    if root is None:
        return None, [Note("source", "the source of the training loop is not on disk")]
    if built.owner is not None:
        return None, [Note("source", "the training loop is the framework's")]
    project = Project(root)
    start = None if built.train is None else project.definition(built.train)
    spans = [start] if start is not None else [built.span, *_created(built)]
    paths = list(dict.fromkeys(span.path for span in spans if span is not None))
    calls: list[SourceCall] = []
    seen = []
    for path in paths:
        lines = linecache.getlines(str(project.root / path))
        tree = _tree(lines)
        if tree is None:
            continue
        seen.append(path)
        calls += _Reader(path, lines, tree).calls(None if start is None else start.line)
    if not seen:
        return None, [Note("source", "the source of the training loop is not on disk")]
    return SourceFacts(tuple(seen), tuple(calls)), []


def _created(built: Built) -> Iterator[Span | None]:
    for _, span in built.recording.created_optimizers:
        yield span


def _tree(lines: Sequence[str]) -> ast.Module | None:
    if not lines or len(lines) > _LONGEST:
        return None
    text = "".join(lines)
    if ".step(" not in text and ".backward(" not in text and not any(name in text for name in _ONE_SHOT):
        return ast.Module([], [])
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


class _Reader:
    """The calls of one file."""

    def __init__(self, path: str, lines: Sequence[str], tree: ast.Module) -> None:
        self._path, self._lines, self._tree = path, lines, tree
        self._made: dict[str, str] = {}  # name → scheduler or optimizer, by what is assigned to it
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = _last(node.value.func)
                kind = "scheduler" if _SCHEDULERS.search(made) else "optimizer" if _OPTIMIZERS.match(made) else ""
                self._made.update((_last(target), kind) for target in node.targets if kind)

    def calls(self, line: int | None) -> list[SourceCall]:
        """Of the function whose name stands in ``line``, else of all."""
        found: list[SourceCall] = []
        scopes: list[tuple[str, Any]] = [("", self._tree)]
        scopes += [(n.name, n) for n in ast.walk(self._tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        for name, scope in scopes:
            if line is None or getattr(scope, "lineno", None) == line:
                own = list(_own(scope))
                managed = any(isinstance(n, (ast.Name, ast.Attribute)) and _last(n) in _MANAGERS for n in own)
                label = f"{name}:{getattr(scope, 'lineno', 0)}"
                found += self._block(scope.body, label, managed, (), ())
                found += self._reused(own, label)
        return found

    def _block(
        self, body: Sequence[ast.stmt], function: str, managed: bool, loops: tuple[int, ...], guards: tuple[str, ...]
    ) -> Iterator[SourceCall]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
                yield from self._block(node.body, function, managed, (*loops, node.lineno), ())
                yield from self._block(node.orelse, function, managed, loops, guards)
            elif isinstance(node, ast.If):
                test = ast.unparse(node.test)
                yield from self._block(node.body, function, managed, loops, (*guards, test))
                yield from self._block(node.orelse, function, managed, loops, (*guards, f"not ({test})"))
                if isinstance(node.body[-1], (ast.Continue, ast.Break, ast.Return, ast.Raise)):
                    guards = (*guards, f"not ({test})")
            elif isinstance(node, (ast.With, ast.AsyncWith)):
                yield from self._block(node.body, function, managed, loops, guards)
            elif isinstance(node, ast.Try):
                for part in (node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody):
                    yield from self._block(part, function, managed, loops, guards)
            else:
                for call in _calls(node):
                    kind, receiver = self._kind(call)
                    if kind:
                        span = literal_span(self._path, self._lines, call)
                        given = bool(call.args or call.keywords)
                        yield SourceCall(kind, receiver, span, function, loops, guards, given, managed)

    def _kind(self, call: ast.Call) -> tuple[str, str]:
        name = _last(call.func)
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        receiver = "" if owner is None else ast.unparse(owner)
        holder = "" if owner is None else _last(owner)
        if name in _CLIPS and receiver in _CLIPPERS:
            return "clip", ast.unparse(call.args[0]) if call.args else ""
        if owner is None:
            return "", ""
        if name == "step":
            return self._step(holder), receiver
        if name == "unscale_":
            return "unscale", receiver
        if name == "backward":
            scaled = isinstance(owner, ast.Call) and _last(owner.func) == "scale"
            return ("scaled_backward" if scaled else "backward"), receiver
        return "", ""

    def _step(self, holder: str) -> str:
        low = holder.lower()
        made = self._made.get(holder, "")
        if made == "scheduler" or "sched" in low:
            return "scheduler_step"
        if "scaler" in low:
            return "scaler_step"
        return "optimizer_step" if made == "optimizer" or "opt" in low else ""

    def _reused(self, own: Sequence[ast.AST], function: str) -> Iterator[SourceCall]:
        """One-shot iterators bound once to a name, and consumed more than once in plain sequence."""
        bound: dict[str, list[ast.AST]] = {}
        for node in own:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.setdefault(node.id, []).append(node)
        for node in own:
            if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
                continue
            name = node.targets[0].id
            if len(bound.get(name, ())) != 1 or not _is_one_shot(node.value):
                continue
            uses = sorted(_consumptions(own, name), key=lambda use: (use.lineno, use.col_offset))
            exclusive = any(isinstance(n, (ast.If, ast.IfExp, ast.Try)) and _holds(n, name) for n in own)
            if len(uses) > 1 and not exclusive:
                spans = [literal_span(self._path, self._lines, use) for use in uses[:2]]
                yield SourceCall("iterator", name, spans[1], function, first=spans[0])


def _own(scope: Any) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions and classes in it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _own(node)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """Calls in a statement, in the order in which they are made."""
    if isinstance(node, ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)
    if isinstance(node, ast.Call):
        yield node


def _last(node: ast.AST) -> str:
    """``c`` of ``a.b.c`` and of ``c``; of an index what is indexed."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _last(node.value)
    return node.id if isinstance(node, ast.Name) else ""


def _is_one_shot(value: ast.AST) -> bool:
    if isinstance(value, ast.GeneratorExp):
        return True
    return (
        isinstance(value, ast.Call)
        and _last(value.func) in _ONE_SHOT
        and (isinstance(value.func, ast.Attribute) == (_last(value.func) in ("parameters", "named_parameters")))
    )


def _consumptions(own: Sequence[ast.AST], name: str) -> Iterator[Any]:
    """Where an iterator is used up: loops, comprehensions, optimizers, parameter groups, clipping, list() and such."""

    def is_it(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id == name

    for node in own:
        if isinstance(node, (ast.For, ast.comprehension)) and is_it(node.iter):
            yield node.iter
        elif isinstance(node, ast.Dict):
            yield from (v for k, v in zip(node.keys, node.values, strict=True) if is_it(v) and _is_params(k))
        elif isinstance(node, ast.Call):
            called = _last(node.func)
            if called in _CONSUMERS or called in _CLIPS or _OPTIMIZERS.match(called):
                given = [
                    *node.args[:1],
                    *(word.value for word in node.keywords if word.arg in ("params", "parameters")),
                ]
                yield from (argument for argument in given if is_it(argument))


def _is_params(key: ast.AST | None) -> bool:
    return isinstance(key, ast.Constant) and key.value == "params"


def _holds(node: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))
