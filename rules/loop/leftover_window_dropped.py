"""The last micro-batches of each epoch are lost: they do not fill a window, and are cleared at the next epoch's start.

Their backward passes are computed and never used: with 10 batches and windows of 4, a fifth of the data.

What to do: step on the rest at the end of an epoch, or leave its gradients for the next.

From a rehearsal of the loop: how many backward passes a step adds up, the length of the loop around them, and a
`zero_grad()` in the loop outside it. Dropping the rest is a choice, too: *info*.

Sources: https://github.com/huggingface/accelerate/pull/1376 (steps at the end of the dataloader)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation


@rule("LR719", severity="info", confidence="medium", needs=("loop",))
def leftover_window_dropped(setup: Setup) -> Iterator[Finding]:
    for o in setup.loop.optimizers:
        if o.leftover:
            yield Finding(
                LoopLocation(o.leftover_span, (), o.optimizer),
                f"{o.label}: the last {o.leftover} micro-batches of each epoch fill no window of {o.window}, "
                "and are cleared unused",
                data={"leftover": o.leftover, "window": o.window},
                help="step on what is left at the end of an epoch",
            )
