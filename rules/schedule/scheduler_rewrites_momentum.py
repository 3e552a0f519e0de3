"""OneCycleLR or CyclicLR replaces the configured momentum or beta1 by its own cycle.

`cycle_momentum=True` is the default: `betas=(0.9, 0.98)` becomes 0.95 → 0.85 → 0.95 under `OneCycleLR`, and an SGD with
momentum 0 gets 0.95. That is part of the one-cycle policy, and unexpected where the momentum was chosen.

What to do: `cycle_momentum=False`, or accept it.

Told once per scheduler. A momentum that stays where it is was set by something else and is left alone.

Sources: https://github.com/pytorch/pytorch/issues/73910,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.text.wording import number


@rule("LR412", severity="info", confidence="high", needs=("optimizer", "schedule"))
def scheduler_rewrites_momentum(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        for scheduled in schedule.groups:
            for name, title in (("momentum", "momentum"), ("betas.0", "beta1")):
                trace, given = scheduled.others.get(name), _given(scheduled.before, name)
                if trace is None or given is None or trace.constant():
                    continue  # what stays was set by something else
                yield Finding(
                    [schedule, *optimizer.groups],
                    f"{schedule.class_name} sets {title} to {number(trace.first)} and moves it between "
                    f"{number(trace.floor)} and {number(trace.peak)}; {number(given)} was configured",
                    data={"option": name, "configured": given, "floor": trace.floor, "peak": trace.peak},
                    help="cycle_momentum=False keeps the configured value",
                )
                break
            else:
                continue
            break


def _given(before, name):
    key, _, part = name.partition(".")
    value = before.get(key)
    return value[int(part)] if part and value else value
