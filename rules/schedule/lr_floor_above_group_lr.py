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

from lrlint import Finding, rule
from lrlint.text.wording import count, rate


@rule("LR402", severity="warning", confidence="high", needs=("optimizer",))
def lr_floor_above_group_lr(setup):
    for schedule in setup.schedules:
        if schedule.optimizer is None:
            continue
        groups = setup.optimizers[schedule.optimizer].groups
        if schedule.plateau is not None:
            yield from _plateau(schedule, groups)
        elif schedule.leads:
            yield from _annealed(schedule, groups)


def _annealed(schedule, groups):
    """Groups whose rate the scheduler lifts to its floor, or else holds there, or else brings close to it."""
    name = schedule.floor.name if schedule.floor else ""
    bases = {g.group: base for g in schedule.groups if g.lr and (base := _base(schedule, g)) > 0}
    floors = {index: floor for index in bases if (floor := schedule.floor.of(index) if schedule.floor else 0.0)}
    low = any(floors.get(index, 0.0) < 0.1 * base for index, base in bases.items())
    found = {}
    for scheduled in schedule.groups:
        base, floor = bases.get(scheduled.group), floors.get(scheduled.group)
        if not base or not floor:
            continue
        peak = scheduled.lr.peak
        if floor > base * (1 + 1e-6) and peak > base * (1 + 1e-6):
            found.setdefault("rises", []).append((peak / base, base, floor, peak, scheduled.group))
        elif abs(floor - base) <= 1e-6 * base and low:
            found.setdefault("stays", []).append((1.0, base, floor, peak, scheduled.group))
        elif base > floor > 0.5 * base and low:
            found.setdefault("ends", []).append((floor / base, base, floor, peak, scheduled.group))
    for kind in [kind for kind in TEXTS if kind in found][:1]:  # one floor, one fault
        cases = found[kind]
        worst = max(cases)
        affected = [case[-1] for case in cases]
        more = f", and {count(len(cases) - 1, 'other group')} likewise" if len(cases) > 1 else ""
        told = [dict(zip(("lr", "floor", "peak", "group"), case[1:], strict=True)) for case in cases]
        yield Finding(
            [schedule.of(*affected), *(groups[index] for index in affected)],
            TEXTS[kind](groups[worst[-1]].label, name, *worst[:4]) + more,
            data={"group": worst[-1], "lr": worst[1], "floor": worst[2], "peak": worst[3], "groups": told},
            help=f"choose {name} below the smallest rate of any group, or anneal to a share of each group's rate",
            severity="info" if kind == "ends" else "",
        )


TEXTS = {
    "rises": lambda label, name, times, base, floor, peak: (
        f"{label}: {rate(base)} → {rate(peak)}, rises {times:.3g}×: {name} {rate(floor)} is above its rate"
    ),
    "stays": lambda label, name, _, base, floor, peak: (
        f"{label} stays at {rate(base)} while others fall: {name} {rate(floor)} is its own rate"
    ),
    "ends": lambda label, name, share, base, floor, peak: (
        f"{label} ends at {share:.0%} of its rate: {name} {rate(floor)} is made for the faster groups"
    ),
}


def _base(schedule, scheduled):
    bases = schedule.base_lrs
    return bases[scheduled.group] if scheduled.group < len(bases) else scheduled.before.get("lr", 0.0)


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
