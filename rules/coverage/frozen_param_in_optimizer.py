"""Frozen parameters are in the optimizer.

They cost nothing while their gradient is None, and do not move. They make counts of what trains wrong, and become live
if somebody enables their gradients later, which may be the plan.

What to do: filter by `requires_grad` after freezing, unless they are to be unfrozen.

A *warning* where a callback will unfreeze them and add a group for them (Lightning's BackboneFinetuning): it skips what
the optimizer already holds, so that the backbone joins at the rate of the group it is in, not at a tenth of it. Measured
with Lightning 2.6: one group of all parameters at the head's rate at the end.

One finding per optimizer. Left alone: setups that declare what they will unfreeze, optimizers in which everything is
frozen (`nothing-trainable`), and frozen parameters with a gradient (`frozen-param-will-move`).

Sources: https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BackboneFinetuning.html (and its
`filter_on_optimizer`), https://github.com/facebookresearch/moco/issues/14; reproduced with torch 2.13 (no movement
without a gradient)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import any_match, describe
from lrlint.text.wording import count, listing, rate


@rule("LR109", severity="info", confidence="high", needs=("optimizer",))
def frozen_param_in_optimizer(setup: Setup) -> Iterator[Finding]:
    yield from _held_before_they_join(setup)
    if setup.training.unfreezes:
        return
    for optimizer in setup.optimizers:
        frozen, live = optimizer.members.split(lambda member: not member.requires_grad)
        frozen = frozen.where(lambda member: member.gradient is None and not _joins(setup, member.parameter))
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


def _joins(setup, parameter):
    """Whether a callback will add a group for the parameter."""
    return any(any_match(setup.training.joins_later, name) for name in (parameter.name, *parameter.names))


def _held_before_they_join(setup):
    for optimizer in setup.optimizers if setup.training.joins_later else ():
        held = optimizer.members.where(lambda member: _joins(setup, member.parameter))
        if held:
            rates = sorted({member.lr for member in held if member.lr is not None})
            yield Finding(
                held,
                f"{count(len(held), 'parameter')} that BackboneFinetuning unfreezes {'is' if len(held) == 1 else 'are'} "
                f"in {optimizer.label} already: it skips them, and they join at {listing(map(rate, rates))} instead of its "
                f"own ratio: {describe(member.name for member in held)}",
                data={"parameters": len(held), "rates": rates},
                help="give the optimizer only what trains from the start (filter by requires_grad): the callback adds the rest",
                severity="warning",
            )
