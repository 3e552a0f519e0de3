"""Frozen parameters are in the optimizer.

They cost nothing while their gradient is None, and do not move. They make counts of what trains wrong, and become live
if somebody enables their gradients later, which may be the plan.

What to do: filter by `requires_grad` after freezing, unless they are to be unfrozen.

One finding per optimizer. Left alone: setups that declare what they will unfreeze, optimizers in which everything is
frozen (`nothing-trainable`), and frozen parameters with a gradient (`frozen-param-will-move`).

Sources: https://github.com/facebookresearch/moco/issues/14; reproduced with torch 2.13 (no movement without a gradient)
"""

from lrlint import Finding, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR109", severity="info", confidence="high", needs=("optimizer",))
def frozen_param_in_optimizer(setup):
    if setup.training.unfreezes:
        return
    for optimizer in setup.optimizers:
        frozen, live = optimizer.members.split(lambda member: not member.requires_grad)
        frozen = frozen.where(lambda member: member.gradient is None)
        if not frozen or not live:
            continue
        elements = sum(member.numel for member in frozen)
        yield Finding(
            frozen,
            f"{count(len(frozen), 'frozen parameter')} ({elements:,} elements) in {optimizer.label}: "
            f"{describe(member.name for member in frozen)}",
            data={"parameters": len(frozen), "elements": elements},
            help="filter by requires_grad, unless they will be unfrozen",
        )
