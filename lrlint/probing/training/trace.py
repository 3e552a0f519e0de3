"""What a run of steps looked like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lrlint.probing.training.statistics import GroupFacts, Key, Statistics


@dataclass(frozen=True, slots=True)
class StepFacts:
    """One step, read. ``loss`` is the one before the step, ``terms`` are its parts where they are known; ``groups`` is
    empty where only the loss was wanted.
    """

    step: int
    loss: float
    groups: Mapping[Key, GroupFacts]
    terms: Mapping[str, float] = field(default_factory=dict)

    @property
    def norm(self) -> float:
        """Norm of all gradients before clipping; NaN where only the loss was wanted."""
        return math.hypot(*(group.gradient for group in self.groups.values())) if self.groups else math.nan

    @property
    def finite(self) -> bool:
        """Nothing infinite or NaN was met."""
        return math.isfinite(self.loss) and all(group.finite for group in self.groups.values())


class Reading:
    """One step's facts on the device. `read` waits for them: the only synchronisation that a step needs."""

    def __init__(
        self,
        step: int,
        loss: torch.Tensor,
        statistics: Sequence[Statistics],
        terms: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.step, self._statistics = step, statistics
        self._terms = tuple(terms or ())
        parts = [term.reshape(1).to(loss.dtype) for term in (terms or {}).values()]
        vectors = [loss.reshape(1), *parts, *(vector for part in statistics for vector in part.vectors())]
        devices = list(dict.fromkeys(vector.device for vector in vectors))
        # One vector per device; concatenation copies, so later steps may overwrite what it was made from.
        self._packed = [torch.cat([v for v in vectors if v.device == device]) for device in devices]
        self._sizes = [(devices.index(vector.device), vector.numel()) for vector in vectors]

    def read(self) -> StepFacts:
        values = [packed.tolist() for packed in self._packed]
        used = [0] * len(values)
        rows = []
        for device, count in self._sizes:
            rows.append(values[device][used[device] : used[device] + count])
            used[device] += count
        groups: dict[Key, GroupFacts] = {}
        at = 1 + len(self._terms)
        for part in self._statistics:
            groups.update(part.groups(rows[at : at + part.parts]))
            at += part.parts
        terms = {name: row[0] for name, row in zip(self._terms, rows[1:], strict=False)}
        return StepFacts(self.step, rows[0][0], groups, terms)


@dataclass
class Trace:
    """A run by steps. The lists of a group (by (optimizer, group)) have one entry per step taken.

    ``gradient``, ``update``, ``weight``, ``slope`` are those of `GroupFacts`; ``norm`` is of all gradients before
    clipping. ``curvature`` is (g' - g)·u: the change of the gradient along the update, known one step later, so it has
    an entry less. ``terms``: parts of the loss by name. ``stopped``: why the run ended before its time (``non-finite``,
    ``memory``, ``asked``), else None.
    """

    keys: tuple[Key, ...]
    loss: list[float] = field(default_factory=list)
    norm: list[float] = field(default_factory=list)
    gradient: dict[Key, list[float]] = field(default_factory=dict)
    update: dict[Key, list[float]] = field(default_factory=dict)
    weight: dict[Key, list[float]] = field(default_factory=dict)
    slope: dict[Key, list[float]] = field(default_factory=dict)
    curvature: dict[Key, list[float]] = field(default_factory=dict)
    terms: dict[str, list[float]] = field(default_factory=dict)
    stopped: str | None = None

    def __len__(self) -> int:
        return len(self.loss)

    def add(self, facts: StepFacts) -> None:
        """Append a step."""
        self.loss.append(facts.loss)
        self.norm.append(facts.norm)
        for name, value in facts.terms.items():
            self.terms.setdefault(name, []).append(value)
        for key, group in facts.groups.items():
            slopes = self.slope.setdefault(key, [])
            curvatures = self.curvature.setdefault(key, [])
            if slopes:
                curvatures.append(group.along - slopes[-1])
            slopes.append(group.slope)
            self.gradient.setdefault(key, []).append(group.gradient)
            self.update.setdefault(key, []).append(group.update)
            self.weight.setdefault(key, []).append(group.weight)
