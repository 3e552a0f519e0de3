"""Gradients are clipped at the wrong moment: for every micro-batch of an accumulation window, or after the step.

Clipping the sum of gradients again and again while it grows favours the last micro-batches. After `optimizer.step()`
it changes nothing that is used.

What to do: clip once, right before the optimizer's step and under the same condition.

Read from the source of the training loop. Silent where a library takes the steps, where the clip has a condition of its
own, and where a backward pass stands between the step and the clip.

Sources: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
"""

from lrlint import Finding, rule

_STEPS = ("optimizer_step", "scaler_step")


@rule("LR704", severity="warning", confidence="medium", needs=("source",))
def clip_placement(setup):
    for calls in setup.source.functions():
        for place, call in enumerate(calls):
            if call.kind != "clip" or call.managed or not call.loops:
                continue
            beside = [(k, step) for k, step in enumerate(calls) if step.kind in _STEPS and step.loops == call.loops]
            if not beside:
                continue
            windows = [guard for _, step in beside for guard in step.guards if "%" in guard]
            if not call.guards and windows and all(any("%" in g for g in step.guards) for _, step in beside):
                text = f"gradients are clipped for every batch, the optimizer steps only where `{windows[0]}`"
            elif place > beside[-1][0] and _nothing_between(calls, beside[0][0], place):
                text = "gradients are clipped after the optimizer's step: the clipped values are never used"
            else:
                continue
            yield Finding(call, text, related=beside[0][1], help="clip once, right before the optimizer's step")


def _nothing_between(calls, step, clip):
    """The loop's backward pass comes before the step, and none between step and clip."""
    kinds = [call.kind for call in calls]
    before = any("backward" in kind for kind in kinds[:step])
    return (
        before and not any("backward" in kind for kind in kinds[step:clip]) and calls[step].guards == calls[clip].guards
    )
