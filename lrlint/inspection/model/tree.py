"""Walk module trees: every module once, every spelling of every parameter, in torch's order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from lrlint.text import names

# A module shared in many places has that many names; past this many visits only the first name of each is kept.
_REVISITS = 4


@dataclass(slots=True)
class Place:
    """A module at its first path. ``path`` is canonical and led by the model's name; "" is a lone model's root."""

    module: nn.Module
    path: str
    raw: str
    parent: Place | None
    root: str


@dataclass
class Tree:
    """All modules and parameter names of the models, in torch's traversal order (own parameters before children)."""

    places: list[Place] = field(default_factory=list)
    place_of: dict[int, Place] = field(default_factory=dict)  # id(module) → its first place
    spellings: dict[int, list[tuple[str, str, nn.Module]]] = field(default_factory=dict)  # id(p) → (raw, leaf, owner)
    objects: dict[int, nn.Parameter] = field(default_factory=dict)  # id(p) → p, in order


def walk(models: Mapping[str, nn.Module]) -> Tree:
    """The tree of all models; a model's key leads its names when there are several."""
    tree = Tree()
    for key, model in models.items():
        prefix = f"{key}." if key else ""
        budget = _REVISITS * sum(1 for _ in _unique(model)) + 1000
        for path, module, parent in _visits(model, budget):
            raw = prefix + path if path else key
            if id(module) not in tree.place_of:
                canonical = (prefix + names.canonical(path + ".")).rstrip(".") if path else key
                place = Place(module, canonical, raw, tree.place_of.get(id(parent)), key)
                tree.place_of[id(module)] = place
                tree.places.append(place)
            for leaf, parameter in module._parameters.items():
                if parameter is not None:
                    tree.objects.setdefault(id(parameter), parameter)
                    name = f"{raw}.{leaf}" if raw else leaf
                    tree.spellings.setdefault(id(parameter), []).append((name, leaf, module))
    return tree


def canonical(raw: str, root: str) -> str:
    """The canonical name below a model's key."""
    if not root:
        return names.canonical(raw)
    return f"{root}." + names.canonical(raw[len(root) + 1 :])


def _unique(model: nn.Module) -> Iterator[nn.Module]:
    seen, stack = {id(model)}, [model]
    while stack:
        module = stack.pop()
        yield module
        for child in module._modules.values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                stack.append(child)


def _visits(model: nn.Module, budget: int) -> Iterator[tuple[str, nn.Module, nn.Module | None]]:
    """(path, module, parent) of every place a module stands in; iterative (deep trees), and a cycle ends at itself."""
    stack: list[tuple[str, nn.Module, nn.Module | None, frozenset[int] | tuple[int, ...]]] = [("", model, None, ())]
    seen: set[int] = set()
    while stack:
        path, module, parent, above = stack.pop()
        repeated = id(module) in seen
        if repeated:
            budget -= 1
            if budget < 0 or id(module) in above:
                continue
        seen.add(id(module))
        yield path, module, parent
        below = (*above, id(module))
        children = [(name, child) for name, child in module._modules.items() if child is not None]
        for name, child in reversed(children):
            stack.append((f"{path}.{name}" if path else name, child, module, below))
