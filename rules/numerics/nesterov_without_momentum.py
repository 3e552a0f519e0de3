"""Nesterov is on in a group without momentum, or with dampening: it does nothing, or not what it says.

Torch refuses `nesterov=True` without momentum when it is passed to the constructor; in a parameter group it is
accepted. Without momentum there is nothing to look ahead along, and the step is plain SGD; with dampening the formula
no longer is Nesterov's.

What to do: give the group its momentum (0.9) and no dampening, or turn `nesterov` off.

Groups that train nothing, and optimizers whose momentum is not an option of the group, are left alone.

Sources: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html; reproduced with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import number


@rule("LR608", severity="warning", confidence="high", needs=("optimizer",))
def nesterov_without_momentum(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        for group in optimizer.groups:
            momentum, dampening = group.number("momentum"), group.number("dampening") or 0.0
            if group.options.get("nesterov") is not True or momentum is None or not group.trainable:
                continue
            if momentum > 0 and dampening == 0:
                continue
            why = "momentum 0: the step is plain SGD" if momentum <= 0 else f"dampening {number(dampening)}"
            yield Finding(
                group,
                f"{group.label} of {optimizer.label} has nesterov=True with {why}",
                data={"momentum": momentum, "dampening": dampening},
                help="nesterov needs momentum above 0 and dampening 0",
                key="nesterov" if momentum > 0 or "momentum" not in group.key_spans else "momentum",
            )
