"""Functions that train and never clear their gradients, as far as what was read shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from lrlint.facts.source import STEPS, SourceCall
from lrlint.inspection.loops.calls import Reader
from lrlint.inspection.loops.code import File, Place, last
from lrlint.inspection.loops.kinds import is_optimizer_name, is_scheduler_class

#: Whatever may clear gradients.
_CLEARS = re.compile(
    r"(zero|clear|reset|empty|flush)\w*grad|grads?\b[^=\n]*\.zero_|\.grad\b\s*=|\bgrad\s*=\s*None|to_none",
    re.IGNORECASE,
)
#: Functions that are given an optimizer and leave its gradients alone.
_HARMLESS = frozenset(("step", "unscale_", "isinstance", "len", "print", "id", "type", "repr", "str", "list"))
_BASES = frozenset(("object", "Module", "ABC", "Protocol", "Generic"))


def uncleared(reader: Reader, files: Iterable[File], places: Sequence[Place], alone: bool) -> Iterator[str]:
    """Labels of the functions among ``places`` whose gradients add up from step to step.

    Silent as soon as clearing is mentioned anywhere in the ``files`` (``alone``: where a function or what it calls stands),
    as an optimizer is handed to code that was not read, as hooks are run, and for methods of classes whose bases were
    not read: these may do it.
    """
    if not alone and any(map(_clears, (line for file in files for line in file.lines))):
        return
    for place in places:
        if not _trains(reader.calls(place)) or _from_elsewhere(place) or any(_handed(reader, place)):
            continue
        if not any(map(_clears, _lines(reader, place))):
            yield place.label


def _clears(line: str) -> bool:
    return _CLEARS.search(line.split("#", 1)[0]) is not None


def _trains(calls: Sequence[SourceCall]) -> bool:
    """It takes steps after a backward pass in a loop, by itself, and runs no hooks."""
    steps = [k for k, call in enumerate(calls) if call.kind in STEPS and call.loops and not call.managed]
    if any(call.kind == "unscale" and not call.receiver for call in calls):
        return False
    return any("backward" in call.kind and call.loops == calls[k].loops for k in steps for call in calls[:k])


def _from_elsewhere(place: Place) -> bool:
    known = place.file.classes.keys() | _BASES
    return place.owner is not None and any(last(base) not in known for base in place.owner.bases)


def _handed(reader: Reader, place: Place) -> Iterator[ast.Call]:
    """Calls that give an optimizer to code that was not read."""
    for call in (node for node in place.nodes if isinstance(node, ast.Call)):
        names = [value for value in (*call.args, *(word.value for word in call.keywords)) if _is_name(value)]
        harmless = last(call.func) in _HARMLESS or is_scheduler_class(last(call.func))
        given = any(is_optimizer_name(last(name)) for name in names)
        if given and not harmless and reader.code.called(place, call) is None:
            yield call


def _is_name(value: ast.expr) -> bool:
    return isinstance(value, (ast.Name, ast.Attribute))


def _lines(reader: Reader, place: Place) -> Iterator[str]:
    for file, node in reader.code.reach(place):
        yield from file.lines[node.lineno - 1 : node.end_lineno]
