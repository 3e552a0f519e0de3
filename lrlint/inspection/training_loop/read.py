"""Read the training loop: which steps it takes, in which order, under which conditions. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lrlint.facts import Note, Span
from lrlint.facts.source import HOOK, NamePattern, SourceCall, SourceFacts
from lrlint.inspection.training_loop.averages import averages
from lrlint.inspection.training_loop.call_kinds import built as built_optimizers
from lrlint.inspection.training_loop.calls import Reader
from lrlint.inspection.training_loop.code import Code, File, Scope
from lrlint.inspection.training_loop.iterators import reused, reused_attributes
from lrlint.inspection.training_loop.manual_rates import sets_rates
from lrlint.inspection.training_loop.name_patterns import name_patterns, walks_of
from lrlint.inspection.training_loop.zero_grad import uncleared
from lrlint.targets.provenance.project import Project, literal_span

if TYPE_CHECKING:
    from lrlint.targets.live_target import LiveTarget

#: A file that holds none of these neither trains nor takes parameters.
_MENTIONS = (".step(", "backward(", "filter(", "map(", "parameters(")


def read(built: LiveTarget) -> tuple[SourceFacts | None, list[Note]]:
    """The calls in the declared ``train`` function, else in the files where the target and its optimizers stand."""
    root = built.recording.root
    if root is None:
        return None, [Note("source", "the source of the training loop is not on disk")]
    project = Project(root)
    code = Code(project)
    patterns = tuple(_patterns(built, code))
    if built.owner is not None:
        hooks = tuple(_hooks(built.owner, project, code))
        if not patterns and not hooks:
            return None, [Note("source", "the training loop is the framework's")]
        return SourceFacts(code.paths, hooks, patterns), []
    start = None if built.train is None else project.definition(built.train)
    spans = [start] if start is not None else [built.span, *_created(built)]
    files = [code.file(path) for path in dict.fromkeys(span.path for span in spans if span is not None)]
    files_ = [file for file in files if file is not None]
    reader = Reader(code)
    everything = {file: file.scopes for file in files_}
    calls = [call for file, inside in everything.items() for call in _calls(reader, file, inside, start)]
    freezing = frozenset(_freezing(built))
    for file, inside in everything.items() if freezing else ():
        for scope in _chosen(inside, start):
            _insert(calls, _put_back(file, scope, freezing))
    if not files_:
        return None, [Note("source", "the source of the training loop is not on disk")]
    scopes = [scope for inside in everything.values() for scope in _chosen(inside, start)]
    missing = uncleared(reader, code.files, scopes, alone=start is not None)
    reached = [inside for scope in scopes for inside in code.reach(scope)]
    by_hand = sets_rates(code.files if start is None else (), reached)
    return SourceFacts(code.paths, tuple(calls), patterns, tuple(missing), by_hand), []


def _freezing(built: LiveTarget) -> Iterator[str]:
    """Methods of the models' own classes that put modules into evaluation mode: `freeze`, `freeze_bn`."""
    for cls in dict.fromkeys(base for model in built.models.values() for base in type(model).__mro__):
        if cls.__module__.startswith("torch."):
            continue
        for name, method in vars(cls).items():
            code = getattr(method, "__code__", None)
            if code is not None and "eval" in code.co_names and name not in ("eval", "train", "forward"):
                yield name


def _put_back(file: File, scope: Scope, methods: frozenset[str]) -> Iterator[SourceCall]:
    """Calls of such a method, as ``eval`` of whichever modules it finds."""
    for node in scope.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
            yield SourceCall("eval", "module", literal_span(file.path, file.lines, node), scope.label)


def _insert(calls: list[SourceCall], added: Iterable[SourceCall]) -> None:
    """Put calls where they stand among those of their function."""
    for call in added:
        before = [k for k, c in enumerate(calls) if c.function == call.function and c.span.line < call.span.line]
        if before:
            calls.insert(before[-1] + 1, call)


def _created(built: LiveTarget) -> Iterator[Span | None]:
    for _, span in built.recording.created_optimizers:
        yield span


def _hooks(owner: Any, project: Project, code: Code) -> Iterator[SourceCall]:
    """The modes that the owner's own methods set while a framework trains."""
    reader = Reader(code)
    for name in filter(HOOK.match, dir(type(owner))):
        span = project.definition(getattr(type(owner), name))
        if span is None or (file := code.file(span.path)) is None:
            continue
        for scope in file.scopes:
            if getattr(scope.node, "lineno", 0) == span.line:
                yield from (call for call in reader.calls(scope) if call.kind == "eval")


def _patterns(built: LiveTarget, code: Code) -> Iterator[NamePattern]:
    for span, names in walks_of(built.recording.walks).items():
        file = code.file(span.path)
        if file is not None:
            yield from name_patterns(file, file.scopes, span, names)


def _chosen(scopes: Iterable[Scope], start: Span | None) -> list[Scope]:
    """The function whose name stands at ``start``, else all."""
    return [scope for scope in scopes if start is None or getattr(scope.node, "lineno", 0) == start.line]


def _calls(reader: Reader, file: File, everything: Sequence[Scope], start: Span | None) -> Iterator[SourceCall]:
    """Of the function whose name stands at ``start``, else of all; optimizers and averages of the whole file."""
    text = "".join(file.lines)
    if not any(mention in text for mention in _MENTIONS):
        return
    scopes = _chosen(everything, start)
    for scope in scopes:
        yield from reader.calls(scope)
        yield from reused(scope)
    for scope in everything:
        for call, name, covers in built_optimizers(scope):
            yield SourceCall("optimizer", name, literal_span(file.path, file.lines, call), scope.label, covers=covers)
    if start is None:
        yield from reused_attributes(file)
    yield from averages(file, [scope.node for scope in scopes])
