"""Gradients are clipped at the wrong moment: for every micro-batch of a window, after the step or before the backward.

Clipping the sum of gradients again and again while it grows favours the last micro-batches. After `optimizer.step()`
it changes nothing that is used; between `zero_grad()` and the backward pass there is nothing to clip. Clipped group by
group, each group is held to the threshold by itself, which changes the size of the groups' steps relative to each other
(*info*: some do so on purpose).

What to do: clip once, over all parameters, right before the optimizer's step and under the same condition.

Where the loop was rehearsed, from what the gradients were at each clip: none yet, used by a step already, or added to
before the step. Else read from the source of the training loop. Silent where a library takes the steps, where the
clip has a condition that the step has not, where the backward pass is under the window's condition too (then it is no
accumulation), and where a backward pass stands between the step and the clip.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation,
https://github.com/huggingface/accelerate/issues/641, https://github.com/huggingface/transformers/issues/1563,
https://github.com/huggingface/transformers/pull/614
"""

import re
from collections.abc import Iterator
from typing import Literal

from lrlint import Finding, Setup, rule
from lrlint.analysis.loop_messages import clip_message
from lrlint.analysis.order import accumulation_window, is_too_early, is_too_late, read_functions, seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.facts.source import STEPS
from lrlint.text.grades import Severity

ONCE = "clip once, right before the optimizer's step"
_GROUP = re.compile(r"""^\w*(group|pg|g)\w*\[['"]params['"]\]$""")


@rule("LR704", severity="warning", confidence="medium", needs=("order",))
def clip_placement(setup: Setup) -> Iterator[Finding]:
    yield from _seen(seen_loop(setup))
    yield from _read(setup)


def _seen(loop):
    for clip in loop.clips:
        if message := clip_message(clip):
            text, severity = message
            where, data = LoopLocation(clip.span), {"times": clip.times}
            yield Finding(where, text, data=data, help=ONCE, severity=severity, confidence="high")


def _read(setup):
    several = any(sum(bool(group.trainable) for group in optimizer.groups) > 1 for optimizer in setup.optimizers)
    found = {}
    for calls in read_functions(setup):
        for place, clip in enumerate(calls):
            if clip.kind != "clip" or clip.managed or clip.span in found or _reached(setup, clip):
                continue
            beside = [(k, step) for k, step in enumerate(calls) if step.kind in STEPS and step.loops == clip.loops]
            severity: Severity | Literal[""] = ""
            if window := accumulation_window(calls, clip, (step for _, step in beside)):
                text = f"gradients are clipped for every batch, the optimizer steps only where `{window}`"
            elif clip.loops and beside and is_too_late(calls, place, clip, beside):
                text = "gradients are clipped after the optimizer's step: the clipped values are never used"
            elif clip.loops and is_too_early(calls, place, clip):
                text = "gradients are clipped between zero_grad() and the backward pass: they are zero then"
            elif several and _GROUP.match(clip.receiver):
                text, severity = "every parameter group is clipped by itself, at the same threshold", "info"
            else:
                continue
            found[clip.span] = Finding(
                clip,
                text,
                related=beside[0][1] if beside else (),
                help=ONCE,
                severity=severity,
            )
    yield from found.values()


def _reached(setup, clip):
    """Seen, and judged by that; whether groups are clipped one by one is read all the same."""
    return seen_loop(setup).reached(clip.span) and not _GROUP.match(clip.receiver)
