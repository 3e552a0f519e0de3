"""Which groups hold the backbone of a model and which its head: by names, and by the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrlint.text.module_names import side

if TYPE_CHECKING:
    from lrlint.facts import Group, Setup
    from lrlint.facts.graph import ParameterUse

    Uses = Mapping[str, ParameterUse]


def side_of(group: Group) -> str:
    """backbone, head or "": the side that the group's parameters are on, a tenth that says nothing aside."""
    sizes = {"backbone": 0, "head": 0, "": 0}
    for parameter in group.trainable:
        sizes["head" if parameter.is_head else side(parameter.module)] += parameter.numel
    name = max(sizes, key=lambda key: sizes[key])
    others = sum(sizes.values()) - sizes[name]
    plain = any(parameter.role == "matrix" for parameter in group.trainable)
    return name if plain and others == sizes[""] and others <= 0.1 * sizes[name] else ""


def _uses(groups: Sequence[Group], uses: Uses) -> list[ParameterUse]:
    found = (uses.get(parameter.name) for group in groups for parameter in group.trainable)
    return [use for use in found if use is not None]


def _orders(groups: Sequence[Group], uses: Uses) -> list[int]:
    return [use.order for use in _uses(groups, uses) if use.order is not None]


def runs_before(first: Sequence[Group], second: Sequence[Group], uses: Uses) -> bool:
    """Whether the forward pass was seen to run all of the first groups before the second ones."""
    early, late = _orders(first, uses), _orders(second, uses)
    return bool(early and late) and max(early) < min(late)


def is_output(group: Group, uses: Uses) -> bool:
    """Whether the group holds the layer that yields the output."""
    found = (uses.get(parameter.name) for parameter in group.trainable if parameter.role == "matrix")
    return any(use is not None and use.reaches_output and use.depth_from_output == 0 for use in found)


def outweighs(head: Sequence[Group], body: Sequence[Group]) -> bool:
    """Whether the head is a decoder with more weights than the backbone: a model of its own."""
    decoder, encoder = ([p for group in groups for p in group.trainable] for groups in (head, body))
    named = all("decoder" in parameter.module.split(".") for parameter in decoder if parameter.role == "matrix")
    return named and sum(p.numel for p in decoder) > sum(p.numel for p in encoder)


def is_bulk(group: Group, setup: Setup) -> bool:
    """Whether the group holds most of what the optimizers train, and not tables alone."""
    sizes = [sum(p.numel for p in other.trainable) for optimizer in setup.optimizers for other in optimizer.groups]
    layers = any(parameter.role == "matrix" for parameter in group.trainable)
    return layers and 2 * sum(parameter.numel for parameter in group.trainable) > sum(sizes)


def is_probe(head: Sequence[Group], body: Sequence[Group], uses: Uses) -> bool:
    """Whether the head reads what the backbone makes, but no gradient leads back: it only measures what is learnt."""
    measured, learnt = ({end for use in _uses(groups, uses) for end in use.outputs} for groups in (head, body))
    return bool(measured and learnt) and not measured & learnt
