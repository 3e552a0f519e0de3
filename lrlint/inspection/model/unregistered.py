"""Find what hangs on a module without being registered with it: torch sees none of it."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrlint.facts import Unregistered
from lrlint.inspection.model.modules import class_span
from lrlint.inspection.model.parameters import Registry
from lrlint.inspection.model.tree import Place, Tree
from lrlint.targets.safe_getattr import attribute

_DEPTH = 3  # levels of containers below an attribute
_ITEMS = 2000  # items looked at per container
_NODES = 10_000  # autograd nodes followed behind a stored tensor
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, torch.dtype, torch.device, torch.Size)
_OWN = frozenset(vars(nn.Module())) | {"_flat_weights", "_trainer", "_fabric", "trainer", "_hf_hook", "_lrlint_ignore"}
_LEAVE = ("_cached", "_fsdp", "_flat_param", "_handle")  # caches, and what sharding keeps beside its shards


def find_unregistered(tree: Tree, registry: Registry, root: Path | None) -> list[tuple[Unregistered, list[Tensor]]]:
    """Modules and parameters in plain containers, and tensors that require a gradient without being parameters.

    Each comes with the leaf tensors that it holds, which the registry has met then; `unregistered_facts` adds theirs.
    """
    found: list[tuple[Unregistered, list[Tensor]]] = []
    reported: set[int] = set()
    for place in tree.places:
        if getattr(type(place.module), "_lrlint_ignore", False):
            continue
        for path, value in _suspects(place, tree):
            if id(value) in reported:
                continue
            reported.add(id(value))
            described = _describe(place, path, value, registry, root)
            if described is not None:
                found.append(described)
    return found


def unregistered_facts(found: Iterable[tuple[Unregistered, list[Tensor]]], registry: Registry) -> list[Unregistered]:
    """What `find_unregistered` found, with the facts of the tensors."""
    return [replace(fact, parameters=tuple(registry.find(t, fact.path) for t in tensors)) for fact, tensors in found]


def _suspects(place: Place, tree: Tree) -> Iterator[tuple[str, Any]]:
    """(path, object) of unregistered modules, parameters and grad-requiring tensors below one module's attributes."""
    lead = f"{place.path}." if place.path else ""

    def known(value: Any) -> bool:
        return id(value) in tree.place_of or id(value) in tree.objects

    for name, value in vars(place.module).items():
        if name in _OWN or name.startswith(_LEAVE) or isinstance(value, _PLAIN):
            continue
        yield from _inside(f"{lead}{name}", value, _DEPTH, known)


def _inside(path: str, value: Any, depth: int, known: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (*_PLAIN, weakref.ref, partial)) or known(value):
        return
    if isinstance(value, nn.Module) or (isinstance(value, torch.Tensor) and value.requires_grad):
        yield path, value
    elif depth and isinstance(value, dict):
        for key, item in list(value.items())[:_ITEMS]:
            yield from _inside(f"{path}[{key!r}]", item, depth - 1, known)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(list(value)[:_ITEMS]):
            yield from _inside(f"{path}[{index}]", item, depth - 1, known)
    elif depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _inside(f"{path}.{field.name}", attribute(value, field.name), depth - 1, known)


def _describe(
    place: Place, path: str, value: Any, registry: Registry, root: Path | None
) -> tuple[Unregistered, list[Tensor]] | None:
    owner = type(place.module)
    common: dict[str, Any] = {
        "path": path,
        "class_name": type(value).__name__,
        "owner": place.path,
        "owner_class": owner.__name__,
        "span": class_span(owner, root),
    }
    if isinstance(value, nn.Module):
        tensors = dict(value.named_parameters())
        if all(tensor in registry for tensor in tensors.values()):
            return None  # empty, or a view of modules that are registered elsewhere
        for name, tensor in tensors.items():
            registry.add(tensor, f"{path}.{name}", "unregistered")
        return Unregistered(kind="module", **common), list(tensors.values())
    if isinstance(value, nn.Parameter):
        registry.add(value, path, "unregistered")
        return Unregistered(kind="parameter", **common), [value]
    if _is_computed_weight(place.module, path.rsplit(".", 1)[-1]):
        return None
    if value.grad_fn is None:
        registry.add(value, path, "unregistered")
        return Unregistered(kind="tensor", **common), [value]
    return Unregistered(kind="tensor", non_leaf=True, derived=_comes_from(value.grad_fn, registry), **common), []


def _is_computed_weight(module: nn.Module, name: str) -> bool:
    """weight_norm and spectral_norm (hook versions) store the weight they compute as a plain attribute."""
    return any(f"{name}{suffix}" in module._parameters for suffix in ("_g", "_v", "_orig"))


def _comes_from(node: Any, registry: Registry) -> bool:
    """Whether the operations behind a tensor lead back to a registered parameter: then it is a stored activation."""
    stack, seen = [node], {node}
    while stack and len(seen) < _NODES:
        node = stack.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf in registry:
            return True
        fresh = [parent for parent, _ in node.next_functions if parent is not None and parent not in seen]
        seen.update(fresh)
        stack += fresh
    return False
