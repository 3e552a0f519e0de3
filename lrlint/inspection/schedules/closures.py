"""Do several factor functions see one and the same loop variable?"""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lrlint.targets.provenance.project import syntax_tree

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_FUNCTIONS = (ast.Lambda, ast.FunctionDef)


@dataclass(frozen=True)
class Shared:
    """``names``: variables that all functions read from one place, although each was made on its own.

    ``loop``: those that the source shows to be set by a loop around the function, so that all see the last value.
    ``source``: false where there is none to look at.
    """

    names: tuple[str, ...] = ()
    loop: tuple[str, ...] = ()
    source: bool = True


def shared_variables(functions: Sequence[Any]) -> Shared:
    """What the factor functions share.

    One function used for all groups shares nothing in this sense; a default argument (``f=f``) is no shared variable.
    """
    plain = [function for function in functions if isinstance(function, types.FunctionType)]
    if len(plain) < 2 or len(plain) < len(functions) or len({id(function) for function in plain}) < len(plain):
        return Shared()
    first = plain[0]
    if any(function.__code__ != first.__code__ for function in plain):
        return Shared()
    cells = [function.__closure__ or () for function in plain]
    free = first.__code__.co_freevars
    shared = tuple(name for index, name in enumerate(free) if len({id(cell[index]) for cell in cells}) == 1)
    # At module level the variable of a loop is a global, which every function shares by nature.
    candidates = [*shared, *first.__code__.co_names]
    targets = _loop_targets(first)
    if targets is None:
        return Shared(shared, source=not shared)
    return Shared(shared, loop=tuple(sorted(targets.intersection(candidates))))


def _loop_targets(function: types.FunctionType) -> set[str] | None:
    """Names set by loops and comprehensions around the function's own source; None where there is no source."""
    tree = _tree(function.__code__.co_filename)
    if tree is None:
        return None
    line = function.__code__.co_firstlineno
    found: set[str] = set()
    for node, around in _nested(tree, ()):
        if isinstance(node, _FUNCTIONS) and _first_line(node) == line:
            for outer in reversed(around):
                if isinstance(outer, _FUNCTIONS):
                    break  # a function around it is called anew for each turn: its variables are its own
                found |= _targets(outer)
    return found


def _first_line(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(d.lineno for d in decorators)]))  # type: ignore[attr-defined]


def _nested(node: ast.AST, around: tuple[ast.AST, ...]) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    for child in ast.iter_child_nodes(node):
        yield child, (*around, node)
        yield from _nested(child, (*around, node))


def _targets(node: ast.AST) -> set[str]:
    targets: list[ast.AST] = []
    if isinstance(node, ast.For):
        targets = [node.target]
    elif isinstance(node, _COMPREHENSIONS):
        targets = [generator.target for generator in node.generators]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _tree(filename: str) -> ast.Module | None:
    lines = linecache.getlines(filename)
    return syntax_tree("".join(lines)) if lines else None
