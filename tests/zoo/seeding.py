"""A sound setup of a real model, and the tools to damage it: what the mutation operators work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from zoo import models
from zoo.groupings import DECAY, GROUPINGS, Groups

LR = 1e-4


@dataclass
class Fault:
    """A damaged setup and what lrlint has to say about it.

    ``parameters`` are the names that the findings of the seeded rule must hold, no more and no fewer; None where the
    fault has no parameters of its own. Then ``groups`` (optimizer, group) must be named, or, where it is no group's
    either, a message must say ``says``. ``also`` are codes that the same damage may raise beside it.
    """

    model: Any
    optimizer: Any
    scheduler: Any = None
    parameters: Iterable[str] | None = None
    groups: Iterable[tuple[int, int]] | None = None
    says: str = ""
    also: tuple[str, ...] = ()
    declared: dict[str, Any] = field(default_factory=dict)


class Sound:
    """A model and its groups: three as experts make them (matrices decay in two halves, vectors are exempt), or those
    of a grouping in use.
    """

    def __init__(self, name: str, grouping: str = "") -> None:
        self.name = name
        self.model = models.build(name)
        self.named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        self.names = {id(p): n for n, p in self.named}
        self.matrices = [n for n, p in self.named if p.ndim >= 2]
        self.norms = models.norm_scales(self.model)
        self.biases = models.biases(self.model)
        if grouping:
            groups = GROUPINGS[grouping](self.model)
            self.lists = [[self.names[id(p)] for p in group.pop("params")] for group in groups]
        else:
            half = len(self.matrices) // 2
            self.lists = [self.matrices[:half], self.matrices[half:], [n for n, p in self.named if p.ndim < 2]]
            groups = [{"weight_decay": decay} for decay in (DECAY, DECAY, 0.0)]
        self.options: list[dict[str, Any]] = groups

    def parameter(self, name: str) -> nn.Parameter:
        return self.model.get_parameter(name)

    def move(self, names: Iterable[str], group: int) -> None:
        """Put parameters into another group."""
        moved = list(names)
        self.drop(moved)
        self.lists[group] += moved

    def take(self, name: str, group: int) -> None:
        """Put a parameter that the model has gained into a group."""
        self.named.append((name, self.parameter(name)))
        self.lists[group].append(name)

    def drop(self, names: Iterable[str]) -> None:
        gone = set(names)
        self.lists = [[n for n in names if n not in gone] for names in self.lists]

    def groups(self) -> Groups:
        return [
            {"params": [self.parameter(n) for n in names], **options}
            for names, options in zip(self.lists, self.options, strict=True)
        ]

    def adamw(self, **options: Any) -> torch.optim.AdamW:
        return torch.optim.AdamW(self.groups(), **{"lr": LR, **options})

    def block(self) -> list[str]:
        """All parameters of the module that holds the middle matrix: one lost layer."""
        owner = self.matrices[len(self.matrices) // 2].rpartition(".")[0]
        return [n for n, _ in self.named if n.rpartition(".")[0] == owner]

    def last(self) -> str:
        """The last matrix that no other module shares: a head, or the end of the last block."""
        counts = list(dict(self.model.named_parameters(remove_duplicate=False)).values())
        return next(n for n in reversed(self.matrices) if sum(p is self.parameter(n) for p in counts) == 1)

    def replace(self, name: str, value: nn.Parameter) -> None:
        path, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(path), leaf, value)

    def repeated(self) -> list[str]:
        """Matrices of one kind, one per block: names that differ in one number."""
        found: dict[str, list[str]] = {}
        for name in self.matrices:
            parts = name.split(".")
            for place, part in enumerate(parts):
                if part.isdigit():
                    found.setdefault(".".join([*parts[:place], "*", *parts[place + 1 :]]), []).append(name)
        return max(found.values(), key=len)


@dataclass(frozen=True)
class Seed:
    """A mutation operator, the rule that must notice, and the models it can be planted in.

    ``anywhere``: in any grouping, not only in that of `Sound`. ``graph``: the forward pass has to be observed.
    """

    code: str
    plant: Callable[[Sound], Fault]
    models: tuple[str, ...]
    anywhere: bool
    graph: bool

    def __str__(self) -> str:
        return f"{self.code}-{self.plant.__name__}"


SEEDS: list[Seed] = []


def seed(
    code: str, *, only: Iterable[str] = (), without: Iterable[str] = (), anywhere: bool = False, graph: bool = False
) -> Callable[[Callable[[Sound], Fault]], Any]:
    """Register a mutation operator for every model of the zoo, or for ``only`` some."""

    def register(plant: Callable[[Sound], Fault]) -> Callable[[Sound], Fault]:
        chosen = tuple(name for name in (tuple(only) or tuple(models.MODELS)) if name not in set(without))
        SEEDS.append(Seed(code, plant, chosen, anywhere, graph))
        return plant

    return register
