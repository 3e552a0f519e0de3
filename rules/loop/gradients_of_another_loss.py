"""A step also uses the gradients that another model's loss has left behind.

The backward pass of a generator's loss goes through the discriminator and leaves gradients in it. Where nothing clears
them before the discriminator's own pass, each of its steps follows the generator's aim as well: to be fooled.

What to do: clear an optimizer's gradients right before the backward pass of its own loss.

From a rehearsal of the loop: at least two steps whose gradients come from backward passes at two places, one of which is
another optimizer's: that one, over other parameters, had stepped on it before the second pass was made, or its parameters
were cleared of the first pass just before and these were not. Two losses that are added up for one step, shared encoders
and critics with a penalty have no such other optimizer between. Not told again where gradients are never cleared at all.

Sources: https://github.com/lucidrains/audiolm-pytorch/issues/48,
https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html (`netD.zero_grad()` first)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.loop import LoopLocation
from lrlint.text.names import describe


@rule("LR712", severity="warning", confidence="high", needs=("loop",))
def gradients_of_another_loss(setup: Setup) -> Iterator[Finding]:
    uncleared = {o.optimizer for o in setup.loop.optimizers if o.stale >= 2}
    for leak in setup.loop.leaks:
        if leak.times < 2 or leak.optimizer in uncleared:
            continue
        why = (
            f"which {leak.owner} had stepped on already"
            if leak.how == "stepped"
            else f"which is {leak.owner}'s: its own parameters were cleared just before"
        )
        yield Finding(
            LoopLocation(leak.span, leak.parameters, leak.optimizer),
            f"{leak.label}: {leak.times} steps also use the gradients of the backward pass at line {leak.other.line}, "
            f"{why} ({describe(leak.parameters)})",
            related={"its own": LoopLocation(leak.own), "the other's": LoopLocation(leak.other)},
            data={"steps": leak.times, "how": leak.how},
            help=f"clear {leak.label}'s gradients right before its own backward pass",
        )
