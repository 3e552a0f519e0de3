"""What a scheduler object says about itself and about those nested in it, before it is stepped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

#: What a scheduler does to the rate, by its class: ``warmup`` rises to the base rate, ``averaging`` is SWALR.
SchedulerKind: TypeAlias = Literal["constant", "decay", "warmup", "cycle", "plateau", "lambda", "averaging", "other"]


@dataclass(frozen=True, slots=True)
class Length:
    """A scheduler is over (``final``), or only stops changing, after ``steps`` of its own steps.

    ``name`` is the argument that says so: ``T_max``, ``total_iters``, ``milestones + T_max`` of a sequence.
    """

    steps: int
    name: str
    final: bool = True

    def __str__(self) -> str:
        return f"{self.name}={self.steps}"


@dataclass(frozen=True, slots=True)
class Floor:
    """The absolute rate that a scheduler anneals to, from its argument ``name``.

    ``rate`` is one for all groups; ``rates`` are one per group where it was given so.
    """

    name: str
    rate: float = 0.0
    rates: tuple[float, ...] | None = None

    def of(self, group: int) -> float:
        """The floor of one group; 0 where it has none."""
        if self.rates is None:
            return self.rate
        return self.rates[group] if group < len(self.rates) else 0.0


@dataclass(frozen=True, slots=True)
class Plateau:
    """A scheduler that follows a metric.

    ``min_lrs`` are its floors, one per group; a text where the user gave one by mistake. ``default_min_lr`` is the
    floor of a group that is added later: None where floors were given one by one, so that there is none for it.
    """

    mode: str = ""  # min or max
    factor: float | None = None
    patience: float | None = None
    threshold: float | None = None
    min_lrs: tuple[float | str | None, ...] = ()
    default_min_lr: float | str | None = None


@dataclass(frozen=True, slots=True)
class Lambdas:
    """The functions given to a LambdaLR.

    ``distinct`` of the ``count`` functions are different objects. ``arguments`` are their names of the counter,
    ``names`` and ``modules`` their own. ``shared`` are variables that all of them read from one place although each
    function was made on its own; ``loop`` are variables that a loop around them sets. Without ``source`` there was no
    text to find a loop in.
    """

    count: int
    distinct: int = 1
    arguments: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    loop: tuple[str, ...] = ()
    source: bool = True


@dataclass(frozen=True, slots=True)
class SchedulerNode:
    """One scheduler object of a tree of nested ones.

    ``attributes`` are its public numbers, strings, flags and short lists, under the names that its class gives them.
    ``lists`` has the length of each of its per-group lists, ``base_lrs`` the rates it scales. A ``foreign`` child drives
    another optimizer than its parent. ``begins`` are the steps at which the second and the following children of a
    sequence take over.
    """

    class_name: str
    qualified: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    lists: Mapping[str, int] = field(default_factory=dict)
    base_lrs: tuple[float, ...] = ()
    foreign: bool = False
    lambdas: Lambdas | None = None
    plateau: Plateau | None = None
    children: tuple[SchedulerNode, ...] = ()
    begins: tuple[int, ...] = ()

    def walk(self) -> Iterator[SchedulerNode]:
        """This scheduler, then every one nested in it, level by level."""
        waiting = [self]
        while waiting:
            node = waiting.pop(0)
            yield node
            waiting.extend(node.children)

    def leaves(self) -> Iterator[SchedulerNode]:
        """Those that compute rates themselves, in the order in which they act."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()
