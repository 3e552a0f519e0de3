"""Gradients are clipped while they are scaled: the threshold is as many times too low as the scale is high.

`scaler.scale(loss).backward()` leaves gradients multiplied by the scale (65536 at first). Clipped at 1.0 then, they are
clipped at 1.5e-5 in truth: every step becomes tiny.

What to do: call `scaler.unscale_(optimizer)` before clipping; `scaler.step` then does not unscale again.

Read from the source of the training loop. Silent where something unscales between the backward pass and the clip, or
may do so (an unknown function that is given the scaler, hooks); where clip and scaler stand under conditions that
exclude each other; where the threshold is scaled too; for clipping by a library (`accelerator.clip_grad_norm_`,
`fabric.clip_gradients`, an FSDP model's own); and where the declared precision needs no scaler.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping,
https://github.com/pytorch/examples/issues/1196, https://github.com/milesial/Pytorch-UNet/issues/468; reproduced with
torch 2.13: the update shrinks 65504-fold
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.order import read_functions, seen_loop
from lrlint.facts.loop import LoopLocation


@rule("LR701", severity="error", confidence="high", needs=("order",))
def clip_before_unscale(setup: Setup) -> Iterator[Finding]:
    if setup.training.precision in ("bf16", "bf16-mixed", "fp32", "fp64"):
        return
    for clip in seen_loop(setup).clips:
        if clip.scaled == clip.times >= 1:
            text = f"gradients of a scaled loss are clipped {clip.scaled} times without `unscale_()` before"
            yield Finding(LoopLocation(clip.span), text, help="call `scaler.unscale_(optimizer)` first")
    yield from _read(setup)


def _read(setup):
    found = {}
    for calls in read_functions(setup):
        for place, clip in enumerate(calls):
            if clip.kind != "clip" or clip.managed or clip.scaled or seen_loop(setup).reached(clip.span):
                continue
            before = [
                k for k, call in enumerate(calls[:place]) if call.kind == "scaled_backward" and not call.excludes(clip)
            ]
            steps = [c for c in calls[place:] if c.kind == "scaler_step" and not c.excludes(clip)]
            if not before or not steps or _scaled_no_more(calls[before[-1] : place]):
                continue
            found[clip.span] = Finding(
                clip,
                f"gradients are clipped before `{steps[0].receiver}` has unscaled them: at 2^-16 of the threshold",
                related=steps[0],
                help=f"call `{steps[0].receiver}.unscale_(optimizer)` first",
            )
    yield from found.values()


def _scaled_no_more(calls):
    """Something unscaled the gradients since, or the step was taken already."""
    return any(call.kind in ("unscale", "scaler_step") for call in calls)
