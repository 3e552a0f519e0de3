"""What is known about the order of things in a training loop: seen in a rehearsal, or read in its source."""

from __future__ import annotations

from collections.abc import Sequence
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


def step_window(calls: Sequence[SourceCall], clip: SourceCall, beside: Sequence[tuple[int, SourceCall]]) -> str:
    """The condition of every step that the clip, under no condition of its own, does not have."""
    steps = [step for _, step in beside if not step.excludes(clip)]
    if not clip.loops or not steps or any(set(clip.guards) - set(step.guards) for step in steps):
        return ""
    windows = [[g for g in step.guards if "%" in g and g not in clip.guards] for step in steps]
    backward = [call for call in calls if "backward" in call.kind and call.loops == clip.loops]
    if not all(windows) or not any(windows[0][0] not in call.guards for call in backward):
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
