"""How each process of a distributed run sees the parameter groups: small enough to be gathered from all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrlint.facts.setup import Setup

#: Group entries that are no option of the update.
_NAMES = ("params", "param_names", "name", "group_name", "param_group")


@dataclass(frozen=True)
class RankGroup:
    """One parameter group as a rank holds it: its options (as `Group.options`), its parameters by canonical name."""

    optimizer: int
    group: int
    options: Mapping[str, Any]
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class RankView:
    """The groups of one rank. ``outside`` are parameters of its model that none holds, ``models`` its models' classes."""

    rank: int
    groups: tuple[RankGroup, ...] = ()
    outside: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def treatment(self) -> dict[str, tuple[tuple[str, str], ...] | None]:
        """What happens to each parameter: options in a form that compares, None where no optimizer holds it."""
        found: dict[str, tuple[tuple[str, str], ...] | None] = dict.fromkeys(self.outside)
        for group in self.groups:
            options = tuple(sorted((key, repr(value)) for key, value in group.options.items()))
            found.update(dict.fromkeys(group.parameters, options))
        return found


def view_of(setup: Setup, rank: int) -> RankView:
    """What a setup looks like to the other ranks."""
    groups = tuple(
        RankGroup(
            optimizer.index,
            group.index,
            {key: value for key, value in group.options.items() if key not in _NAMES},
            tuple(parameter.name for parameter in group.parameters),
        )
        for optimizer in setup.optimizers
        for group in optimizer.groups
    )
    outside = tuple(p.name for p in setup.parameters if p.origin == "model" and p.index not in setup.membership)
    return RankView(rank, groups, outside, tuple(model.class_name for model in setup.models))
