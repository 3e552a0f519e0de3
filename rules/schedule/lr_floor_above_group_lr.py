"""A scheduler's absolute floor lies above a group's rate, so annealing raises that group instead of lowering it.

`eta_min` and `min_lr` are absolute rates shared by all groups. With groups at 1e-05 and 1e-03 and `eta_min=1e-4` the
slow group climbs to ten times its rate while the other falls: differential rates end up equal. A floor equal to the
rate freezes the group. A floor above half of one group's rate, while it is small for another, is told as *info*: the
ratio between the groups collapses. `ReduceLROnPlateau(min_lr=...)` above a rate leaves that group alone (*info*).

What to do: choose the floor below the smallest group's rate, scale it per group (two schedulers cannot share an
optimizer: use a `LambdaLR` whose factor ends at a ratio), or leave it at 0.

`CyclicLR` and `OneCycleLR` are told absolute rates by design and are not judged here. Severity is warning, as measured
on published recipes.

Sources: https://github.com/open-mmlab/mmengine/pull/725 (a ratio in place of one absolute `eta_min`),
https://github.com/katsura-jp/pytorch-cosine-annealing-with-warmup/issues/16 (annealing inverted under the floor),
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.analysis.rate_floors import floored
from lrlint.text.wording import count, rate


@rule("LR402", severity="warning", confidence="high", needs=("optimizer",))
def lr_floor_above_group_lr(setup: Setup) -> Iterator[Finding]:
    for schedule in (s for s in setup.schedules if s.plateau is not None and s.optimizer is not None):
        yield from _plateau(schedule, setup.optimizers[schedule.optimizer].groups)
    for schedule, optimizer in driven(setup):
        cases = floored(schedule)
        if not cases:
            continue
        worst = max(cases, key=lambda case: case.peak / case.lr if case.kind == "rises" else case.floor / case.lr)
        affected = [case.group for case in cases]
        more = f", and {count(len(cases) - 1, 'other group')} likewise" if len(cases) > 1 else ""
        told = [{"lr": case.lr, "floor": case.floor, "peak": case.peak, "group": case.group} for case in cases]
        name = schedule.floor.name
        yield Finding(
            [schedule.of(*affected), *(optimizer.groups[index] for index in affected)],
            _text(optimizer.groups[worst.group].label, name, worst) + more,
            data={**told[cases.index(worst)], "groups": told},
            help=f"choose {name} below the smallest rate of any group, or anneal to a share of each group's rate",
            severity="info" if worst.kind == "ends" else "",
        )


def _text(label, name, case):
    lr, floor, peak = rate(case.lr), rate(case.floor), rate(case.peak)
    if case.kind == "rises":
        return f"{label}: {lr} → {peak}, rises {case.peak / case.lr:.3g}×: {name} {floor} is above its rate"
    if case.kind == "stays":
        return f"{label} stays at {lr} while others fall: {name} {floor} is its own rate"
    return f"{label} ends at {case.floor / case.lr:.0%} of its rate: {name} {floor} is made for the faster groups"


def _plateau(schedule, groups):
    for group, floor in zip(groups, schedule.plateau.min_lrs, strict=False):
        if isinstance(floor, float) and group.lr and floor > group.lr:
            yield Finding(
                [schedule, group],
                f"{group.label} stays at {rate(group.lr)} at every plateau: min_lr {rate(floor)} is above its rate",
                data={"group": group.index, "lr": group.lr, "floor": floor},
                help="give min_lr as a list, one value per group",
                severity="info",
            )
