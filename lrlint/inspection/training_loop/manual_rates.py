"""Whether code sets learning rates by hand: it writes ``lr`` into the groups that an optimizer holds."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from lrlint.inspection.training_loop.call_kinds import is_optimizer_class
from lrlint.inspection.training_loop.code import File, last

#: What is assigned to has to be called so: a file that does not hold it sets no rate.
_GROUPS = "param_groups"


class _Seen(NamedTuple):
    """What one walk tells of a node: whether anything in it builds or loads an optimizer, and whether anything in it
    sets a rate, where it runs ``once`` and where it may run ``again``.
    """

    prepares: bool
    once: bool
    again: bool


def sets_rates(files: Iterable[File], statements: Iterable[tuple[File, ast.stmt]]) -> bool:
    """Whether a loop, or a function that neither builds nor loads an optimizer, assigns to an optimizer's
    ``param_groups[k]["lr"]``, or to a group in a loop over these.

    Looks at whole files, and at statements that stand outermost in theirs. What is written once, after an optimizer
    was built or loaded, sets a rate and no schedule.
    """
    nodes: list[tuple[File, ast.Module | ast.stmt]] = [(file, file.tree) for file in files]
    return any(_sets_within(file, node) for file, node in (*nodes, *statements))


def _sets_within(file: File, node: ast.Module | ast.stmt) -> bool:
    if not any(_GROUPS in line for line in file.lines):
        return False
    seen = _outermost(file.tree)[node]
    return seen.once if seen.prepares else seen.again


@lru_cache(maxsize=16)  # as many as there are trees that `syntax_tree` shares
def _outermost(tree: ast.Module) -> dict[ast.AST, _Seen]:
    """The tree and each of its outermost statements, by one walk."""
    seen: dict[ast.AST, _Seen] = {node: _seen(node) for node in tree.body}
    parts = seen.values()
    whole = _Seen(any(p.prepares for p in parts), any(p.once for p in parts), any(p.again for p in parts))
    return {**seen, tree: whole}


def _seen(node: ast.AST) -> _Seen:
    prepares = isinstance(node, ast.Call) and _is_preparation(node)
    once = again = False
    for child in ast.iter_child_nodes(node):
        inner = _seen(child)
        prepares |= inner.prepares
        once |= inner.once
        again |= inner.again
    sets = _sets(node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        once = again = once if prepares else again
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and not sets:
        once = again
    return _Seen(prepares, once, again or sets)


def _is_preparation(call: ast.Call) -> bool:
    return last(call.func) == "load_state_dict" or is_optimizer_class(last(call.func))


def _sets(node: ast.AST) -> bool:
    if isinstance(node, (ast.For, ast.AsyncFor)) and _over_groups(node.iter):
        bound = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        return any(isinstance(owner, ast.Name) and owner.id in bound for owner in _written(node))
    return any(_over_groups(owner) for owner in _written_by(node))


def _over_groups(node: ast.AST) -> bool:
    called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    uses = (part for part in ast.walk(node) if isinstance(part, ast.Attribute) and part.attr == _GROUPS)
    return any(id(part) not in called for part in uses)


def _written(node: ast.AST) -> Iterator[ast.expr]:
    return (owner for inner in ast.walk(node) for owner in _written_by(inner))


def _written_by(node: Any) -> Iterator[ast.expr]:
    """The groups whose rate a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    for target in (part for target_list in targets for part in getattr(target_list, "elts", [target_list])):
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and target.slice.value == "lr":
            yield target.value
