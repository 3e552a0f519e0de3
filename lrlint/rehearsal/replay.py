"""Go through the events once more, with what each gradient holds: which backward passes are in it, and who used them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from lrlint.rehearsal.recorder import Event


@dataclass(frozen=True)
class Step:
    """One step: by tensor, the backward passes in its gradient (negative: put there by hand), and which of those this
    optimizer had used before.
    """

    event: Event
    held: dict[int, list[int]]
    before: dict[int, set[int]]

    @property
    def optimizer(self) -> int:
        return int(self.event["optimizer"])

    def fresh(self) -> dict[int, set[int]]:
        """By backward pass that this step is the first to use: the tensors whose gradient holds it."""
        tensors_of: dict[int, set[int]] = defaultdict(set)
        for tensor, passes in self.held.items():
            for number in set(passes) - self.before[tensor]:
                tensors_of[number].add(tensor)
        return tensors_of


@dataclass
class Lost:
    """A backward pass whose gradients on some tensors were cleared before any optimizer had used them."""

    number: int
    tensors: set[int]
    event: Event  # the clearing


@dataclass
class Replay:
    events: Sequence[Event]
    steps: list[Step] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    backward: dict[int, Event] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    received: set[int] = field(default_factory=set)  # tensors that got a gradient
    moved: set[int] = field(default_factory=set)
    edited: set[int] = field(default_factory=set)  # tensors whose gradient the script changed in place, not by clipping
    by_hand: set[int] = field(default_factory=set)  # tensors written outside a step while they held a gradient
    owners: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    optimizers: dict[int, Event] = field(default_factory=dict)
    wrappers: set[int] = field(default_factory=set)

    def of(self, optimizer: int) -> list[Step]:
        return [step for step in self.steps if step.optimizer == optimizer]

    def shared(self) -> dict[int, int]:
        """By optimizer: its steps on gradients of a backward pass that another optimizer has stepped on, too."""
        users: dict[tuple[int, int], int] = {}
        counts: dict[int, int] = defaultdict(int)
        for step in self.steps:
            keys = [(tensor, number) for tensor, passes in step.held.items() for number in passes]
            if any(users.setdefault(key, step.optimizer) != step.optimizer for key in keys):
                counts[step.optimizer] += 1
        return counts

    def inside(self, optimizer: int) -> bool:
        """Whether its steps are taken within another's step, or within the backward pass."""
        mine = self.of(optimizer)
        return bool(mine) and all(step.event.inside for step in mine)


def replay(events: Sequence[Event]) -> Replay:
    """Everything that the order of the events says."""
    state = Replay(events)
    held: dict[int, list[int]] = defaultdict(list)
    taken: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))  # tensor → optimizer → passes
    for event in events:
        if event.kind == "optimizer":
            state.optimizers[event["optimizer"]] = event
            for number in (number for group in event["groups"] for number in group):
                state.owners[number].add(event["optimizer"])
        elif event.kind == "backward":
            number = event["number"]
            state.backward[number] = event
            for tensor in event["got"]:
                held[tensor] = [*held[tensor], number]
            state.received.update(event["got"], event["moved"])
            if event["moved"]:  # the optimizers of hooks have used it
                state.used.add(number)
                state.moved.update(event["moved"])
        elif event.kind == "set":
            for tensor in event["tensors"]:
                held[tensor] = [-1 - event.time]
            state.received.update(event["tensors"])
        elif event.kind == "moved":
            state.moved.update(event["tensors"])
            for tensor in event["tensors"]:
                state.used.update(held[tensor])
                if held[tensor]:
                    state.by_hand.add(tensor)
        elif event.kind == "edit":
            state.edited.update(event["tensors"])
        elif event.kind == "clear":
            _clear(state, event, held, taken)
        elif event.kind == "step":
            _step(state, event, held, taken)
    return state


def _clear(state: Replay, event: Event, held: dict[int, list[int]], taken: dict[int, dict[int, set[int]]]) -> None:
    lost: dict[int, set[int]] = defaultdict(set)
    for tensor in event["tensors"]:
        for number in held[tensor]:
            if number > 0 and not any(number in passes for passes in taken[tensor].values()):
                lost[number].add(tensor)
        held[tensor] = []
    state.lost += [Lost(number, tensors, event) for number, tensors in lost.items()]


def _step(state: Replay, event: Event, held: dict[int, list[int]], taken: dict[int, dict[int, set[int]]]) -> None:
    optimizer = event["optimizer"]
    for tensor in event["all"]:
        state.owners[tensor].add(optimizer)
    now = {tensor: list(held[tensor]) for tensor in event["held"]}
    before = {tensor: set(taken[tensor][optimizer]) for tensor in event["held"]}
    for tensor, passes in now.items():
        taken[tensor][optimizer].update(passes)
        state.used.update(passes)
    state.moved.update(event["moved"])
    if not event.inside and state.steps and state.steps[-1].event.inside == "step":
        state.wrappers.add(optimizer)
    state.steps.append(Step(event, now, before))


def window_of(replayed: Replay, steps: Sequence[Step]) -> tuple[int, list[Event]]:
    """How many backward passes from one place a step usually adds up, and those passes."""
    sizes: Counter[int] = Counter()
    passes: list[Event] = []
    for step in steps:
        if not step.held:
            continue
        largest = max(step.held, key=lambda tensor: len(step.held[tensor]))
        numbers = [n for n in set(step.held[largest]) - step.before[largest] if n in replayed.backward]
        if numbers and len({replayed.backward[n].span for n in numbers}) == 1:
            sizes[len(numbers)] += 1
            passes += [replayed.backward[n] for n in numbers]
    return (sizes.most_common(1)[0][0] if sizes else 1), passes
