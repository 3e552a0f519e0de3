"""Whether code sets learning rates by hand: it writes ``lr`` into the groups that an optimizer holds."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

from lrlint.inspection.training_loop.call_kinds import is_optimizer_class
from lrlint.inspection.training_loop.code import last


def sets_rates(nodes: Iterable[ast.AST]) -> bool:
    """Whether a loop, or a function that neither builds nor loads an optimizer, assigns to an optimizer's
    ``param_groups[k]["lr"]``, or to a group in a loop over these.

    What is written once, after an optimizer was built or loaded, sets a rate and no schedule.
    """
    return any(_within(node, _prepares(node)) for node in nodes)


def _prepares(node: ast.AST) -> bool:
    calls = (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))
    return any(last(call.func) == "load_state_dict" or is_optimizer_class(last(call.func)) for call in calls)


def _within(node: ast.AST, once: bool) -> bool:
    """``once``: what stands here runs once."""
    if not once and _sets(node):
        return True
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        once = _prepares(node)
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and not _sets(node):
        once = False
    return any(_within(child, once) for child in ast.iter_child_nodes(node))


def _sets(node: ast.AST) -> bool:
    if isinstance(node, (ast.For, ast.AsyncFor)) and _over_groups(node.iter):
        bound = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        return any(isinstance(owner, ast.Name) and owner.id in bound for owner in _written(node))
    return any(_over_groups(owner) for owner in _written_by(node))


def _over_groups(node: ast.AST) -> bool:
    called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    found = (part for part in ast.walk(node) if isinstance(part, ast.Attribute) and part.attr == "param_groups")
    return any(id(part) not in called for part in found)


def _written(node: ast.AST) -> Iterator[ast.expr]:
    return (owner for inner in ast.walk(node) for owner in _written_by(inner))


def _written_by(node: Any) -> Iterator[ast.expr]:
    """The groups whose rate a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    for target in (part for given in targets for part in getattr(given, "elts", [given])):
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and target.slice.value == "lr":
            yield target.value
