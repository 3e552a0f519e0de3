"""Whether code sets learning rates by hand: it writes ``lr`` into the groups that an optimizer holds."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any


def sets_rates(nodes: Iterable[ast.AST]) -> bool:
    """Whether there is an assignment to ``optimizer.param_groups[k]["lr"]``, or to a group in a loop over these.

    Groups that are prepared before there is an optimizer do not count.
    """
    return any(_sets(inner) for node in nodes for inner in ast.walk(node))


def _sets(node: ast.AST) -> bool:
    if isinstance(node, (ast.For, ast.AsyncFor)) and _over_groups(node.iter):
        bound = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        return any(isinstance(owner, ast.Name) and owner.id in bound for owner in _written(node))
    return any(_over_groups(owner) for owner in _written_by(node))


def _over_groups(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr == "param_groups" for part in ast.walk(node))


def _written(node: ast.AST) -> Iterator[ast.expr]:
    return (owner for inner in ast.walk(node) for owner in _written_by(inner))


def _written_by(node: Any) -> Iterator[ast.expr]:
    """The groups whose rate a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    for target in targets:
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and target.slice.value == "lr":
            yield target.value
