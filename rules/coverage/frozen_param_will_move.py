"""A frozen parameter goes on moving: it was frozen after it had a gradient, and the gradient is still there.

`requires_grad = False` stops new gradients. An optimizer steps whatever has a `.grad` that is not None: the old
gradient, momentum and weight decay are applied again at each step. Measured over 5 steps: SGD with momentum and decay
moves it by -1.09 with a zeroed gradient and by -2.37 with a stale one; AdamW by -0.04 and -0.05; with `.grad = None`
by exactly 0.

What to do: `parameter.grad = None` where it is frozen, or build the optimizer anew without it.

Reported for frozen members at a rate above 0 whose gradient is not None; a gradient of zeros counts where decay or
momentum would act on it.

Sources: https://discuss.pytorch.org/t/why-there-is-still-a-small-change-in-frozen-layer-parameters/153740;
measured with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR110", severity="error", confidence="high", needs=("optimizer",))
def frozen_param_will_move(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        acts = optimizer.state_size > 0
        moving = optimizer.members.where(
            lambda m, acts=acts: (
                not m.requires_grad
                and m.gradient is not None
                and (m.lr is None or peak(m.group) > 0)
                and (m.gradient != "zero" or acts or m.weight_decay > 0)
            )
        )
        if moving:
            stale = sum(member.gradient != "zero" for member in moving)
            yield Finding(
                moving,
                f"{count(len(moving), 'frozen parameter')} of {optimizer.label} still "
                f"{'has' if len(moving) == 1 else 'have'} a gradient, and the next step moves "
                f"{'it' if len(moving) == 1 else 'them'}: {describe(member.name for member in moving)}",
                data={"parameters": len(moving), "stale": stale, "zero": len(moving) - stale},
                help="set .grad = None where parameters are frozen",
            )
