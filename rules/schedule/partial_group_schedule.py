"""A scheduler changes the rate of some groups and leaves others constant.

A `get_lr` that returns one value, or a loop over too few groups, schedules group 0 only; the others take their first
step at the full rate while group 0 warms up, and never anneal.

What to do: return one rate per group (`len(optimizer.param_groups)` values), and build the scheduler after the last
group was added.

Silent for functions given one per group (a constant one is a decision), for groups at rate 0, for a floor that holds a
group (`lr-floor-above-group-lr` tells), and for groups added late (`scheduler-group-count-mismatch`).

Sources: https://github.com/deepspeedai/DeepSpeed/pull/7969 (one rate returned, only group 0 warmed up),
https://github.com/microsoft/hi-ml/issues/611
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.text.wording import listing, rate


@rule("LR410", severity="error", confidence="high", needs=("optimizer", "schedule"))
def partial_group_schedule(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        groups = optimizer.groups
        moving = [g for g in schedule.groups if g.lr and g.lr.peak > 1.01 * abs(g.lr.floor)]
        still = [g for g in schedule.groups if g.lr and g.lr.peak > 0 and g.lr.constant()]
        still = [g for g in still if groups[g.group].parameters]
        if not moving or not still or _intended(schedule):
            continue
        stays = listing(f"{groups[g.group].label} at {rate(g.lr.first)}" for g in still[:3])
        more = f" and {len(still) - 3} more stay" if len(still) > 3 else " stays" if len(still) == 1 else " stay"
        first = moving[0]
        course = f"{rate(first.lr.first)} … {rate(first.lr.peak)} … {rate(first.lr.last)}"
        yield Finding(
            [schedule.of(*(g.group for g in still)), *(groups[g.group] for g in still)],
            f"{schedule.class_name} schedules {groups[first.group].label} ({course}), but {stays}{more}",
            data={"constant": [g.group for g in still], "scheduled": [g.group for g in moving]},
            help="compute one rate per parameter group",
        )


def _intended(schedule):
    groups = len(schedule.groups)
    if schedule.kinds == ("averaging",):  # one rate for all groups, which may be that of some already
        return True
    for node in schedule.nodes():
        if node.lambdas is not None and node.lambdas.distinct > 1:
            return True
        if any(size != groups for name, size in node.lists.items() if name != "_last_lr"):
            return True
    floor = schedule.floor
    floors = () if floor is None else (floor.rate,) if floor.rates is None else floor.rates
    rates = [group.lr.first for group in schedule.groups if group.lr and group.lr.constant()]
    return any(floor and abs(floor - value) <= 1e-6 * value for floor in floors for value in rates)
