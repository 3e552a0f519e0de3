"""A scheduler takes one rate for all groups and overwrites the different rates they were given.

`OneCycleLR`, `CyclicLR` and many home-made schedulers are told absolute rates. Given one number, they write it to every
parameter group: a backbone at 1e-05 beside a head at 1e-03 trains at 1e-03 from the first step on, and nothing warns.
The rates are compared as they were before the first scheduler took the optimizer with those the simulation shows when
the rate is highest.

What to do: give one value per group in group order (`max_lr=[1e-5, 1e-3]`), or use a scheduler that multiplies
(`LambdaLR`, `SequentialLR` of `LinearLR` and `CosineAnnealingLR`).

Silent where all rates were equal or zero before (a placeholder), and for learning-rate-free optimizers. Severity is
warning, as measured on published recipes; a deliberate reset of all rates is rare but possible.

Sources: https://github.com/pytorch/pytorch/issues/73305 (a scalar `max_lr` discards the group rates),
https://github.com/katsura-jp/pytorch-cosine-annealing-with-warmup/issues/14,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.text.wording import listing, rate


@rule("LR401", severity="warning", confidence="high", needs=("optimizer", "schedule"))
def scheduler_flattens_group_lrs(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        given = {group.group: group.before["lr"] for group in schedule.groups if group.before.get("lr") and group.lr}
        if optimizer.family == "lr-free" or len(set(given.values())) < 2:
            continue
        traces = {group.group: group.lr for group in schedule.groups if group.group in given}
        step, where = max(traces.values(), key=lambda trace: trace.peak).peak_step, "at its peak"
        if schedule.kinds == ("averaging",):  # told its last rate
            step, where = schedule.horizon, "in the end"
        rates = [trace.at(step) for trace in traces.values()]
        if max(rates) - min(rates) > 1e-6 * max(rates):
            continue
        had = listing(f"{optimizer.groups[index].label} had {rate(lr)}" for index, lr in list(given.items())[:4])
        more = f" and {len(given) - 4} more" if len(given) > 4 else ""
        yield Finding(
            [schedule, *(optimizer.groups[index] for index in given)],
            f"{schedule.class_name} gives all {len(given)} groups one rate, {rate(rates[0])} {where}: {had}{more}",
            data={"given": {str(index): lr for index, lr in given.items()}, "peak": rates[0]},
            help="pass one value per group, in group order, or use a scheduler that multiplies the group's own rate",
        )
