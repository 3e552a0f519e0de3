"""What is known about the order of things in a training loop: seen in a rehearsal, or read in its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from lrlint.facts.loop import LoopFacts
from lrlint.facts.source import STEPS

if TYPE_CHECKING:
    from lrlint.facts import Schedule, Setup
    from lrlint.facts.source import SourceCall, SourceFacts


def seen_loop(setup: Setup) -> LoopFacts:
    """The loop as it was seen, where that was enough to judge it; else one in which nothing happened."""
    return setup.loop if setup.loop is not None and setup.loop.judged else LoopFacts()


def read_functions(setup: Setup) -> list[list[SourceCall]]:
    """The calls of each function that was read, in order; none where no source was read."""
    return [] if setup.source is None else setup.source.functions()


def accumulation_window(calls: Sequence[SourceCall], call: SourceCall, beside: Iterable[SourceCall]) -> str:
    """The condition of an accumulation window that every step of the loop waits for, and the call (a clip, a scheduler's
    step) does not; "" where there is none. Of the steps ``beside`` it those count that run in the same iteration.
    """
    steps = [step for step in beside if not step.excludes(call)]
    if not call.loops or not steps or any(set(call.guards) - set(step.guards) for step in steps):
        return ""
    windows = [[guard for guard in step.guards if "%" in guard and guard not in call.guards] for step in steps]
    backward = [other for other in calls if "backward" in other.kind and other.loops == call.loops]
    if not all(windows) or not any(windows[0][0] not in other.guards for other in backward):
        return ""
    return windows[0][0]


def is_too_late(
    calls: Sequence[SourceCall], place: int, clip: SourceCall, beside: Sequence[tuple[int, SourceCall]]
) -> bool:
    """The loop's backward pass comes before the only step, and none between the step and the clip."""
    if place < beside[-1][0]:
        return False
    step, call = beside[0]
    kinds = [other.kind for other in calls if other.loops[: len(clip.loops)] == clip.loops or not other.loops]
    before = any("backward" in other.kind and other.loops[: len(clip.loops)] == clip.loops for other in calls[:step])
    after = any("backward" in other.kind for other in calls[step:place])
    switched = [guard for guard in clip.guards if "clip" not in guard]  # `if grad_clip:` says no more than whether to
    return before and not after and switched == [*call.guards] and "clip" in kinds


def is_too_early(calls: Sequence[SourceCall], place: int, clip: SourceCall) -> bool:
    """The last thing before it clears the gradients, the next is the backward pass."""
    around = [(k, c.kind) for k, c in enumerate(calls) if c.turns and (c.loops, c.guards) == (clip.loops, clip.guards)]
    before = [kind for k, kind in around if k < place]
    after = [kind for k, kind in around if k > place]
    return before[-1:] == ["zero_grad"] and bool(after) and "backward" in after[0]


def is_undone(calls: Sequence[SourceCall], zero: SourceCall, step: SourceCall) -> bool:
    """A backward pass, `zero_grad()` and, on the next line, the same optimizer's step."""
    if zero.kind != "zero_grad" or step.kind not in STEPS or zero.managed or not zero.loops:
        return False
    if (zero.loops, zero.guards, zero.span.path) != (step.loops, step.guards, step.span.path):
        return False
    if (step.covers if step.kind == "scaler_step" else (step.receiver,)) != (zero.receiver,):
        return False
    if step.kind == "optimizer_step" and step.arguments:
        return False
    before = [c for c in calls[: calls.index(zero)] if c.loops == zero.loops]
    moves = [c.kind for c in before if c.guards == zero.guards[: len(c.guards)] and c.turns]
    return step.span.line - (zero.span.end_line or zero.span.line) == 1 and bool(moves) and "backward" in moves[-1]


def step_in_turn(setup: Setup, ours: Sequence[Schedule]) -> bool:
    """Seen: no two of them step in the same iteration of the outermost loop."""
    pairs = set(setup.loop.alternating) if setup.loop is not None else set()
    indices = sorted(schedule.index for schedule in ours)
    return all((a, b) in pairs for position, a in enumerate(indices) for b in indices[position + 1 :])


def exclude_each_other(source: SourceFacts) -> bool:
    """Whether the loops step several schedulers, no two of them under conditions that can hold together."""
    found = False
    for calls in source.functions():
        steps = [call for call in calls if call.kind == "scheduler_step"]
        pairs = [(a, b) for i, a in enumerate(steps) for b in steps[i + 1 :] if a.receiver != b.receiver]
        if not all(a.excludes(b) for a, b in pairs):
            return False
        found = found or bool(pairs)
    return found


def take_turns(setup: Setup, indices: Collection[int]) -> bool:
    """Whether each of these optimizers steps after a backward pass of its own: as a rehearsal saw it, else as it reads."""
    seen = [o for o in setup.loop.optimizers if o.optimizer in indices and o.steps] if setup.loop is not None else []
    if len(seen) == len(indices):
        return not any(o.shared for o in seen)
    return setup.source is not None and _in_turn(setup, setup.source, indices)


def _in_turn(setup: Setup, source: SourceFacts, indices: Collection[int]) -> bool:
    """Whether the loops step these optimizers, and each after a backward pass of its own with cleared gradients."""
    ours, turns = _bound(setup, source, indices), False
    for calls in source.functions():
        last = ""
        since: set[str] = set()
        for call in calls:
            stepped = call.covers[0] if call.kind == "scaler_step" and call.covers else call.receiver
            if call.kind not in STEPS or (ours and stepped not in ours):
                since.add("backward" if "backward" in call.kind else call.kind)
                continue
            if last and stepped != last:
                if not {"backward", "zero_grad"} <= since:
                    return False
                turns = True
            last, since = stepped, set()
    return turns


def _bound(setup: Setup, source: SourceFacts, indices: Collection[int]) -> set[str]:
    """The names that these optimizers are bound to, by where they are built; none where one of them is not known."""
    bound: set[str] = set()
    for optimizer in (setup.optimizers[index] for index in indices):
        where = optimizer.span and (optimizer.span.path, optimizer.span.line)
        names = {c.receiver for c in source.of_kind("optimizer") if (c.span.path, c.span.line) == where}
        if not names:
            return set()
        bound |= names
    return bound


def is_ahead(
    calls: Sequence[SourceCall], call: SourceCall, place: int, first: int, inside: Sequence[tuple[int, SourceCall]]
) -> bool:
    """Whether a scheduler steps before its optimizer: before the ``first`` step of all, with a backward pass between.

    The order in the loop is that of the text, unless the loop starts with the steps of the batch before.
    """
    passes = any("backward" in between.kind for between in calls[place : inside[0][0]]) if inside else False
    return passes and not call.guards and place < first
