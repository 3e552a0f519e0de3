"""A function given to `LambdaLR` returns the learning rate instead of a factor, so the rate is squared.

`LambdaLR` multiplies: with `lr=1e-3` and a function that returns 1e-3 the group trains at 1e-6. The sign is a largest
factor equal to the base rate (within 5 %) and below 0.1.

What to do: return a factor whose peak is 1, or set the groups' `lr` to 1.0.

Silent for groups with `lr=1.0` or 0.1, the convention where the function returns absolute rates on purpose.

Sources: https://github.com/lhoyer/MIC/issues/60, https://github.com/gao-hongnan/omniverse/issues/82;
counter-example https://github.com/tsun/SSRT/issues/5,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LambdaLR.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import base_rate, driven
from lrlint.text.wording import count, rate


@rule("LR407", severity="error", confidence="high", needs=("optimizer", "schedule"))
def lambda_returns_absolute_lr(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        if schedule.kinds != ("lambda",):
            continue
        groups = optimizer.groups
        found = []
        for scheduled in (group for group in schedule.groups if group.lr is not None):
            base = base_rate(schedule, scheduled)
            if not 0 < base < 0.1:
                continue
            factor = scheduled.lr.peak / base
            if abs(factor / base - 1) < 0.05:
                found.append((base, factor, scheduled.group))
        if found:
            base, factor, index = max(found)
            affected = [group for *_, group in found]
            more = f"; so for {count(len(found) - 1, 'other group')}" if len(found) > 1 else ""
            yield Finding(
                [schedule.of(*affected), *(groups[group] for group in affected)],
                f"{groups[index].label}: {rate(base)} → {rate(base * factor)} at its peak: the function returns the "
                f"rate itself ({rate(factor)}), and {schedule.class_name} multiplies the rate by it{more}",
                data={"group": index, "lr": base, "factor": factor, "groups": affected},
                help="return a factor whose peak is 1",
            )
