"""Read the training loop: which steps it takes, in which order, under which conditions. Nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lrlint.facts import Note, Span
from lrlint.facts.source import HOOK, NamePattern, SourceCall, SourceFacts
from lrlint.inspection.training_loop.averages import averages
from lrlint.inspection.training_loop.call_kinds import built as built_optimizers
from lrlint.inspection.training_loop.calls import Reader
from lrlint.inspection.training_loop.code import Code, File, Place
from lrlint.inspection.training_loop.iterators import reused, reused_attributes
from lrlint.inspection.training_loop.manual_rates import sets_rates
from lrlint.inspection.training_loop.name_patterns import name_patterns, walks_of
from lrlint.inspection.training_loop.zero_grad import uncleared
from lrlint.targets.provenance.project import Project, literal_span

if TYPE_CHECKING:
    from lrlint.targets.live_target import Built

#: A file that holds none of these neither trains nor takes parameters.
_MENTIONS = (".step(", "backward(", "filter(", "map(", "parameters(")


def read(built: Built) -> tuple[SourceFacts | None, list[Note]]:
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
    found = [file for file in files if file is not None]
    reader = Reader(code)
    everything = {file: list(code.places(file)) for file in found}
    calls = [call for file, inside in everything.items() for call in _calls(reader, file, inside, start)]
    if not found:
        return None, [Note("source", "the source of the training loop is not on disk")]
    places = [place for inside in everything.values() for place in _chosen(inside, start)]
    missing = uncleared(reader, code.files, places, alone=start is not None)
    whole = [file.tree for file in code.files] if start is None else []
    by_hand = sets_rates([*whole, *(node for place in places for _, node in code.reach(place))])
    return SourceFacts(code.paths, tuple(calls), patterns, tuple(missing), by_hand), []


def _created(built: Built) -> Iterator[Span | None]:
    for _, span in built.recording.created_optimizers:
        yield span


def _hooks(owner: Any, project: Project, code: Code) -> Iterator[SourceCall]:
    """The modes that the owner's own methods set while a framework trains."""
    reader = Reader(code)
    for name in filter(HOOK.match, dir(type(owner))):
        span = project.definition(getattr(type(owner), name))
        if span is None or (file := code.file(span.path)) is None:
            continue
        for place in code.places(file):
            if getattr(place.node, "lineno", 0) == span.line:
                yield from (call for call in reader.calls(place) if call.kind == "eval")


def _patterns(built: Built, code: Code) -> Iterator[NamePattern]:
    places: dict[str, list[Place]] = {}
    for span, names in walks_of(built.recording.walks).items():
        file = code.file(span.path)
        if file is not None:
            if file.path not in places:
                places[file.path] = list(code.places(file))
            yield from name_patterns(file, places[file.path], span, names)


def _chosen(places: Iterable[Place], start: Span | None) -> list[Place]:
    """The function whose name stands at ``start``, else all."""
    return [place for place in places if start is None or getattr(place.node, "lineno", 0) == start.line]


def _calls(reader: Reader, file: File, everything: list[Place], start: Span | None) -> Iterator[SourceCall]:
    """Of the function whose name stands at ``start``, else of all; optimizers and averages of the whole file."""
    text = "".join(file.lines)
    if not any(mention in text for mention in _MENTIONS):
        return
    places = _chosen(everything, start)
    for place in places:
        yield from reader.calls(place)
        yield from reused(place)
    for place in everything:
        for call, name, covers in built_optimizers(place):
            yield SourceCall("optimizer", name, literal_span(file.path, file.lines, call), place.label, covers=covers)
    if start is None:
        yield from reused_attributes(file)
    yield from averages(file, [place.node for place in places])
