"""The raw record of a rehearsal: events, and what has to be asked of live objects while they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrlint.facts import Span
from lrlint.facts.loop import AverageSeen, Occurrence, Raised
from lrlint.rehearsal.ledger import Tensor
from lrlint.rehearsal.recorder import Event


@dataclass
class Material:
    """What a rehearsal leaves: events and everything that has to be asked of live objects.

    ``names`` are those of tensors, by number; ``optimizers`` and ``schedulers`` the indices of the setup, by number;
    ``sites`` and ``loaders`` the places of loops, ``runs`` (site, run, visited, length, iteration) of those with steps.
    ``step_calls`` are the receivers of every ``.step(`` in the sources.
    """

    events: Sequence[Event]
    tensors: Sequence[Tensor]
    names: Mapping[int, str] = field(default_factory=dict)
    optimizers: Mapping[int, int] = field(default_factory=dict)
    schedulers: Mapping[int, int] = field(default_factory=dict)
    created: Mapping[tuple[str, int], Span | None] = field(default_factory=dict)
    bindings: Mapping[int, str] = field(default_factory=dict)  # of schedulers: the name they were bound to
    sub_schedulers: frozenset[int] = frozenset()
    sites: Sequence[Span] = ()
    runs: Sequence[tuple[int, int, int, int | None, int]] = ()
    open_runs: frozenset[int] = frozenset()  # those that were not over when the rehearsal was
    step_calls: Sequence[str] = ()
    averages: Sequence[AverageSeen] = ()
    variables: Sequence[Occurrence] = ()
    train_span: Span | None = None
    endless: int | None = None
    batch_size: int | None = None
    raised: Raised | None = None
    non_finite: int | None = None
    end: str = ""
    ended: bool = False
    seconds: float = 0.0


def same_loops(built: Event, later: Event) -> bool:
    """Whether the later event is inside the very iterations that the earlier one was in."""
    pairs = zip(built.loops, later.loops, strict=False)
    return len(built.loops) <= len(later.loops) and all(a.run == b.run and a.iteration == b.iteration for a, b in pairs)
