"""What goes wrong between backward passes, clipping and steps: lost passes, clips at the wrong moment, leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from lrlint.facts import Span
from lrlint.facts.loop import ClipSeen, Leak, LostBackward
from lrlint.rehearsal.recorder import Event
from lrlint.rehearsal.replay import Lost, Replay, Step


def lost_backwards(replay: Replay, label: Callable[[int], str], index: Mapping[int, int]) -> Iterator[LostBackward]:
    """Backward passes that are cleared before any step uses them, by their place and that of the clearing."""
    lost_at: dict[tuple[Span, Span | None], list[Lost]] = defaultdict(list)
    for lost in replay.lost:
        event = replay.backward.get(lost.number)
        if event is not None and event.span is not None and lost.number not in replay.used:
            lost_at[event.span, lost.event.span].append(lost)
    for (span, cleared), items in lost_at.items():
        owners = {o for item in items for tensor in item.tensors for o in replay.owners[tensor]}
        steps = [step.event.time for step in replay.steps if step.optimizer in owners]
        if not owners or not steps:
            continue
        numbers = {item.number for item in items}
        every = [number for number, event in replay.backward.items() if event.span == span]
        gaps = {sum(time < replay.backward[number].time for time in steps) for number in numbers}
        share = len(gaps & set(range(len(steps)))) / len(steps)
        owner = min(owners)
        yield LostBackward(
            span=span,
            cleared=cleared,
            optimizer=index.get(owner),
            label=label(owner),
            lost=len(numbers),
            passes=len(every),
            used=sum(number in replay.used for number in every),
            share=share,
            explained=_explanation(replay, items, owners),
        )


def _explanation(replay: Replay, items: list[Lost], owners: set[int]) -> str:
    if any(replay.backward[item.number]["inputs"] for item in items):
        return "inputs"
    steps = [step for step in replay.steps if step.optimizer in owners]
    if any(number < 0 for step in steps for passes in step.held.values() for number in passes):
        return "assigned"
    members = {tensor for item in items for tensor in item.tensors}
    return "moved" if members & replay.by_hand else ""


def clips(replay: Replay, name: Callable[[int], str]) -> list[ClipSeen]:
    """Every place that clips, with what its calls met."""
    stepped = {tensor for step in replay.steps for tensor in step.event["all"]}
    stepped |= {tensor for tensor, owners in replay.owners.items() if owners}
    calls_at: dict[Span, list[Event]] = defaultdict(list)
    for event in replay.events:
        if event.kind == "clip" and event.span is not None:
            calls_at[event.span].append(event)
    seen_clips = []
    for span, calls in calls_at.items():
        verdicts = Counter(_verdict(replay, call) for call in calls)
        tensors = sorted({tensor for call in calls for tensor in call["tensors"]})
        foreign = not any(set(call["tensors"]) & stepped for call in calls)
        seen_clips.append(
            ClipSeen(
                span=span,
                times=len(calls),
                empty=verdicts["empty"],
                used=verdicts["used"],
                partial=verdicts["partial"],
                scaled=sum(_scaled(replay, call) for call in calls),
                foreign=foreign and bool(replay.steps) and bool(tensors),
                limit=next((call["limit"] for call in calls if call["how"] == "clip_grad_norm_"), None),
                parameters=tuple(name(tensor) for tensor in tensors[:64]) if foreign else (),
            )
        )
    return seen_clips


def _verdict(replay: Replay, clip: Event) -> str:
    """What the gradients were when they were clipped, and what happened to them until the step."""
    if not clip["held"]:
        return "empty"
    holds: dict[int, set[int]] = defaultdict(set)
    used: dict[int, set[int]] = defaultdict(set)
    for event in replay.events[: clip.time]:
        _follow(event, holds, used)
    held = [tensor for tensor in clip["held"] if holds[tensor]]
    if not held:
        return "empty"
    if all(holds[tensor] <= used[tensor] for tensor in held):
        return "used"
    waiting, added = set(held), False
    for event in replay.events[clip.time + 1 :]:
        if event.kind == "backward" and waiting & set(event["got"]):
            added = True
        elif event.kind == "clear":
            waiting -= set(event["tensors"])
        elif event.kind == "step" and waiting & set(event["held"]):
            return "partial" if added else "fine"
        elif event.kind == "clip" and event.span != clip.span and added and waiting & set(event["held"]):
            return "fine"  # the whole sum is clipped elsewhere
        if not waiting:
            return "cleared"
    return "open"


def _follow(event: Event, holds: dict[int, set[int]], used: dict[int, set[int]]) -> None:
    if event.kind == "backward":
        for tensor in event["got"]:
            holds[tensor].add(event["number"])
    elif event.kind == "set":
        for tensor in event["tensors"]:
            holds[tensor] = {-1 - event.time}
    elif event.kind == "clear":
        for tensor in event["tensors"]:
            holds[tensor] = set()
    elif event.kind == "step":
        for tensor in event["held"]:
            used[tensor] |= holds[tensor]


def _scaled(replay: Replay, clip: Event) -> bool:
    """Whether the loss was scaled, and its gradient not unscaled since."""
    for event in reversed(replay.events[: clip.time]):
        if event.kind in ("scaler.unscale_", "scaler.update"):
            return False
        if event.kind == "scaler.scale":
            return any(e.kind == "backward" for e in replay.events[event.time : clip.time])
    return False


def leaks(
    replay: Replay, label: Callable[[int], str], name: Callable[[int], str], index: Mapping[int, int]
) -> Iterator[Leak]:
    """Steps that use, beside their own loss's gradients, those of a loss that another optimizer steps on."""
    cases_of: dict[tuple[int, Span, Span, str, int], list[tuple[Step, set[int]]]] = defaultdict(list)
    for step in replay.steps:
        if step.optimizer in replay.wrappers or step.event.inside:
            continue
        fresh = {n: tensors for n, tensors in step.fresh().items() if n in replay.backward}
        for first in sorted(fresh):
            for second in sorted(n for n in fresh if n > first):
                a, b = replay.backward[first], replay.backward[second]
                if a.span is None or b.span is None or a.span == b.span:
                    continue
                between = replay.events[a.time : b.time]
                if (other := _stepped_on(step, a, between)) is not None:
                    cases_of[step.optimizer, b.span, a.span, "stepped", other].append((step, fresh[first]))
                elif (other := _cleared_before(replay, step, a, b, between)) is not None:
                    cases_of[step.optimizer, a.span, b.span, "cleared", other].append((step, fresh[second]))
    for (optimizer, own, other_span, how, owner), cases in cases_of.items():
        span = cases[0][0].event.span
        if span is not None:
            tensors = {tensor for _, tensors in cases for tensor in tensors}
            yield Leak(
                span=span,
                own=own,
                other=other_span,
                label=label(optimizer),
                owner=label(owner),
                how=how,
                times=len(cases),
                optimizer=index.get(optimizer),
                parameters=tuple(name(tensor) for tensor in sorted(tensors)[:64]),
            )


def _stepped_on(step: Step, backward: Event, between: Sequence[Event]) -> int | None:
    """Another optimizer over other parameters that stepped on this backward pass before the next one was made."""
    for event in between:
        if event.kind != "step" or event["optimizer"] == step.optimizer or event.inside:
            continue
        if set(event["held"]) & set(backward["got"]) and not set(event["all"]) & set(step.event["all"]):
            return int(event["optimizer"])
    return None


def _cleared_before(replay: Replay, step: Step, first: Event, second: Event, between: Sequence[Event]) -> int | None:
    """Another optimizer whose parameters were cleared of the first pass before the second, while these were not."""
    for event in between:
        if event.kind == "clear":
            shared = set(event["tensors"]) & set(first["got"]) & set(second["got"]) - set(step.event["all"])
            owners = {owner for tensor in shared for owner in replay.owners[tensor]} - {step.optimizer}
            if owners:
                return min(owners)
    return None
