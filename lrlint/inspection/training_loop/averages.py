"""Averages of weights that follow the parameters and not the buffers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lrlint.facts.source import SourceCall
from lrlint.inspection.training_loop.code import File, label_of, last
from lrlint.targets.provenance.project import literal_span

_AVERAGE = re.compile(r"(^|_)ema(_|$)|^EMA|Ema([A-Z]|$)|EMA$|ExponentialMovingAverage|exponential_moving_average")
#: Classes that are given parameters alone and average these (torch_ema, diffusers).
_OF_PARAMETERS = re.compile(r"^(EMA|EMAModel|ExponentialMovingAverage)$")
_BUFFERS = re.compile(r"buffers|state_dict|running_mean|update_bn|AveragedModel")
_MOVES = frozenset(("mul_", "lerp_", "lerp", "copy_", "add_", "sub_"))


def averages(file: File, within: Sequence[ast.AST]) -> Iterator[SourceCall]:
    """Classes and functions that average parameters only, and calls that build such an average.

    ``within`` is the code that trains: only what stands in it, or is named in it, counts.
    """
    updates = list(_found(file)) if any("ema" in line.lower() or "MovingAverage" in line for line in file.lines) else []
    if not updates:
        return
    nodes = {id(node): node for part in within for node in ast.walk(part)}
    used = {last(node) for node in nodes.values() if isinstance(node, (ast.Name, ast.Attribute))}
    for node, name in updates:
        if id(node) in nodes or (name in used and not isinstance(node, ast.Call)):
            yield SourceCall("average", name, literal_span(file.path, file.lines, node), label_of(file, node))


def _found(file: File) -> Iterator[tuple[Any, str]]:
    defined = [n for n in ast.walk(file.tree) if isinstance(n, (ast.ClassDef, ast.FunctionDef))]
    named = [node for node in defined if _AVERAGE.search(node.name)]
    inner = {id(child) for node in named for child in ast.walk(node) if child is not node}
    for node in named:
        if id(node) not in inner and _follows_parameters(node) and not _BUFFERS.search(ast.unparse(node)):
            yield node, node.name
    for call in ast.walk(file.tree):
        if isinstance(call, ast.Call) and call.args and _OF_PARAMETERS.match(last(call.func)):
            argument, name = call.args[0], last(call.func)
            if name not in file.classes and isinstance(argument, ast.Call) and last(argument.func) == "parameters":
                yield call, name


def _follows_parameters(node: ast.AST) -> bool:
    """Whether it walks over parameters and moves something towards them."""
    walks = moves = False
    for child in ast.walk(node):
        if isinstance(child, (ast.For, ast.comprehension)):
            calls = [n for n in ast.walk(child.iter) if isinstance(n, ast.Call)]
            walks |= any(last(call.func) in ("parameters", "named_parameters") for call in calls)
        elif isinstance(child, ast.Call):
            moves |= isinstance(child.func, ast.Attribute) and child.func.attr in _MOVES
        elif isinstance(child, ast.BinOp) and isinstance(child.op, ast.Mult):
            moves |= any("decay" in last(side) or "beta" in last(side) for side in (child.left, child.right))
    return walks and moves
