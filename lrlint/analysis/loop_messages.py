"""What a rehearsal saw of gradients, in the words of its findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.text.grades import Severity
from lrlint.text.names import describe

if TYPE_CHECKING:
    from lrlint.facts.loop import ClipSeen, LostBackward, OptimizerSeen


def clip_message(clip: ClipSeen) -> tuple[str, Severity] | None:
    """What is wrong with the moment of a clip that was seen at least twice, and how bad it is."""
    late, partial, times = clip.used + clip.empty == clip.times, clip.partial >= 2, clip.times
    if clip.foreign or times < 2:
        return None
    if clip.empty == times:
        text = f"{times} of {times} times there is no gradient yet to clip"
    elif clip.used and late:
        text = f"{clip.used} of {times} times gradients are clipped after the step that has used them"
    elif partial and 2 * clip.partial >= times:
        text = f"{clip.partial} of {times} times another backward pass adds to what was clipped before the step"
    else:
        return None
    return text, "warning" if partial and not late else "error"


def stale_message(optimizer: OptimizerSeen) -> tuple[str, bool]:
    """How many steps use gradients of an earlier step, and whether all of them do that could."""
    o = optimizer
    always = o.stale >= max(2, o.steps - 1 - o.repeated) and not o.repeated
    text = f"{o.label}: {o.stale} of {o.steps} steps also use gradients of an earlier step"
    return f"{text}{': nothing clears them' if always else ''} ({describe(o.parameters)})", always


def lost_message(lost: LostBackward) -> str:
    """How many backward passes were cleared unused."""
    text = f"{lost.lost} of {lost.passes} backward passes seen are cleared before {lost.label} has used them"
    return f"{text}: {'only the last of a window counts' if lost.used else 'none counts'}"
