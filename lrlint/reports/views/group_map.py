"""The group map: every parameter from input to output with its peak rate and how it is treated.

A staircase of rates, a hole where no optimizer holds a parameter and an inverted pair are seen at a glance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lrlint.facts import Group, Parameter, Setup
from lrlint.text.wording import count, number

#: Most columns that are told apart; more parameters share one.
COLUMNS = 800
_NUMBERED = re.compile(r"^(?:(?:layers?|stages?|blocks?|h)_?)?(\d+)$")

#: What is not trained at any rate, in the order of the legend.
UNCOVERED = "in no optimizer"
FROZEN = "frozen"
NO_RATE = "rate 0"


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter on the map: its peak rate and treatment (an index into `GroupMap.treatments`) in each group that
    holds it; ``state`` is one of the constants above where it does not train at a rate, else ""."""

    name: str
    marks: tuple[tuple[float, int], ...] = ()
    state: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring columns ``first`` to ``last`` (exclusive) that look alike."""

    first: int
    last: int
    rate: float | None
    treatment: int
    state: str = ""


@dataclass(frozen=True)
class GroupMap:
    """Parameters in order. ``executed``: in that of the observed pass, else as they are registered."""

    slots: tuple[Slot, ...]
    treatments: tuple[str, ...]
    executed: bool

    @property
    def columns(self) -> int:
        return min(len(self.slots), COLUMNS)

    @property
    def states(self) -> list[str]:
        """The states that occur, in the order of the legend."""
        present = {slot.state for slot in self.slots}
        return [state for state in (UNCOVERED, FROZEN, NO_RATE) if state in present]

    @property
    def decades(self) -> tuple[int, int]:
        """The powers of ten around all rates."""
        rates = [rate for slot in self.slots for rate, _ in slot.marks]
        if not rates:
            return (-4, -3)
        low, high = math.floor(math.log10(min(rates)) + 1e-9), math.ceil(math.log10(max(rates)) - 1e-9)
        return (low, high) if high > low else (low - 1, high) if math.log10(min(rates)) <= low else (low, low + 1)

    def height(self, rate: float) -> float:
        """0 at the lowest decade, 1 at the highest."""
        low, high = self.decades
        return (math.log10(rate) - low) / (high - low)

    def runs(self, columns: int = COLUMNS) -> list[Run]:
        """What is drawn, over at most ``columns`` columns: per treatment and rate the stretches that have it."""
        width = min(len(self.slots), columns)
        cells: list[dict[tuple[float | None, int, str], None]] = [{} for _ in range(width)]
        for position, slot in enumerate(self.slots):
            cell = cells[position * width // len(self.slots)]
            for rate, treatment in slot.marks:
                cell[rate, treatment, ""] = None
            if slot.state:
                cell[None, 0, slot.state] = None
        open_: dict[tuple[float | None, int, str], int] = {}
        runs: list[Run] = []
        for column in range(width + 1):
            here = cells[column] if column < width else {}
            for key in [key for key in open_ if key not in here]:
                runs.append(Run(open_.pop(key), column, key[0], key[1], key[2]))
            for key in here:
                open_.setdefault(key, column)
        return sorted(runs, key=lambda run: (run.first, run.last, run.state, run.treatment, run.rate or 0.0))

    def labels(self) -> list[tuple[int, str]]:
        """(position of the first parameter, what the place is called) for each block or module, in order."""
        stacks = list(dict.fromkeys(_stack(slot.name)[0] for slot in self.slots if _stack(slot.name)[1]))
        labels: list[tuple[int, str]] = []
        last: tuple[str, str] | None = None
        for position, slot in enumerate(self.slots):
            path, block = _stack(slot.name)
            here = (path, block) if block else (_owner(slot.name), "")
            if here == last:
                continue
            entered = block and len(stacks) > 1 and (last is None or last[0] != path)
            text = f"{path.rpartition('.')[2]} {block}" if entered else block or here[0].rpartition(".")[2] or slot.name
            if not labels or labels[-1][1] != text:
                labels.append((position, text))
            last = here
        return labels

    def told(self) -> str:
        """The picture in words, for those who do not see it."""
        low, high = self.rates()
        parts = [f"{count(len(self.slots), 'parameter tensor')} from input to output"]
        if low is not None and high is not None:
            parts.append(f"peak rates {number(low)} to {number(high)}")
        for state in self.states:
            parts.append(f"{sum(slot.state == state for slot in self.slots)} {state}")
        return ", ".join(parts)

    def rates(self) -> tuple[float | None, float | None]:
        """(lowest, highest) peak rate above 0."""
        rates = [rate for slot in self.slots for rate, _ in slot.marks]
        return (min(rates), max(rates)) if rates else (None, None)


def group_map(setup: Setup) -> GroupMap | None:
    """The map of a setup; None where it has no parameter."""
    present = [parameter for parameter in setup.parameters if parameter.origin != "discarded"]
    if not present:
        return None
    treatments: dict[str, int] = {}
    several = len(setup.optimizers) > 1
    slots = []
    for parameter in _ordered(setup, present):
        groups = setup.groups_of(parameter)
        marks = []
        for group in groups if parameter.requires_grad else ():
            rate = group.lr if group.peak_lr is None else group.peak_lr
            if rate is not None and rate > 0 and math.isfinite(rate):
                marks.append((rate, treatments.setdefault(_treatment(setup, group, several), len(treatments))))
        state = "" if marks else FROZEN if not parameter.requires_grad else NO_RATE if groups else UNCOVERED
        slots.append(Slot(parameter.name, tuple(dict.fromkeys(marks)), state))
    # Legends read from the largest decay down, whatever comes first in the model.
    names = sorted(treatments, key=lambda text: (text.partition("decay ")[0], -_decay(text)))
    index_of = {treatments[name]: index for index, name in enumerate(names)}
    moved = tuple(Slot(s.name, tuple((rate, index_of[t]) for rate, t in s.marks), s.state) for s in slots)
    return GroupMap(moved, tuple(names), setup.graph is not None)


def _treatment(setup: Setup, group: Group, several: bool) -> str:
    lead = f"{setup.optimizers[group.optimizer].label}, " if several else ""
    return f"{lead}decay {group.weight_decay:g}"


def _decay(text: str) -> float:
    return float(text.rpartition("decay ")[2])


def _ordered(setup: Setup, present: Sequence[Parameter]) -> Iterator[Parameter]:
    """In order of execution; a parameter that the pass did not use stays behind the one it is registered after."""
    known = setup.graph.parameters if setup.graph is not None else {}
    keys: list[tuple[int, int, Parameter]] = []
    last = -1
    for index, parameter in enumerate(present):
        use = known.get(parameter.name)
        if use is not None and use.order is not None:
            last = use.order
        keys.append((last, index, parameter))
    return (parameter for _, _, parameter in sorted(keys, key=lambda key: key[:2]))


def _stack(name: str) -> tuple[str, str]:
    """(path, block number) of the outermost numbered segment of a name: ``("encoder.layer", "3")``; else ("", "")."""
    segments = name.split(".")
    for position, segment in enumerate(segments[:-1]):
        if match := _NUMBERED.match(segment):
            return ".".join(segments[:position]), match[1]
    return "", ""


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
