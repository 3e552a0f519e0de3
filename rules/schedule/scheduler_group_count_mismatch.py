"""A parameter group was added after the scheduler was built, so the scheduler's lists are too short for it.

What follows depends on the class, and only the simulation tells: `LambdaLR`, `MultiplicativeLR`, `CyclicLR` and
`CosineAnnealingWarmRestarts` raise at their next step, `OneCycleLR` misses its own keys in the new group; older torch
left the new group at a constant rate. `LinearLR` and `ConstantLR` undo a start factor that the new group never got:
with `start_factor=0.01` its rate grows 100×. `ReduceLROnPlateau` with a list of `min_lr` raises at the first plateau.
The other classes treat the new group well (*info*).

What to do: build the scheduler after the last `add_param_group`, or build a new one then.

`ReduceLROnPlateau` with one `min_lr` for all groups is left alone, and so is a scheduler of another optimizer.

Sources: https://github.com/pytorch/pytorch/issues/79888 (the new group never scheduled),
https://github.com/pytorch/pytorch/issues/104361 (an error hours later, at the first plateau),
https://github.com/deepspeedai/DeepSpeed/pull/7969
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import count, rate

#: Group lists that a scheduler keeps only to report, or fills at the next step.
REPORTED = ("_last_lr",)


@rule("LR404", severity="error", confidence="high", needs=("optimizer",))
def scheduler_group_count_mismatch(setup: Setup) -> Iterator[Finding]:
    for schedule in setup.schedules:
        if schedule.optimizer is None:
            continue
        groups = setup.optimizers[schedule.optimizer].groups
        short = [(node, name, size) for node in schedule.nodes() for name, size in _lists(node) if size != len(groups)]
        if not short:
            continue
        node, name, size = short[0]
        consequence, severity = _consequence(schedule, node, groups, size)
        if consequence:
            yield Finding(
                [schedule, *groups[size:]],
                f"{node.class_name} was built for {count(size, 'group')} ({name}), the optimizer has {len(groups)}: "
                f"{consequence}",
                data={"list": name, "length": size, "groups": len(groups)},
                help="build the scheduler after the last add_param_group",
                severity=severity,
            )


def _lists(node):
    return [(name, size) for name, size in node.lists.items() if name not in REPORTED]


def _consequence(schedule, node, groups, size):
    """(what happens, severity); ('', '') where nothing does."""
    if node.plateau is not None:
        harmless = node.plateau.default_min_lr is not None
        return ("", "") if harmless else ("it raises at the first plateau", "error")
    if schedule.error is not None:
        return f"{schedule.error.type} at step {schedule.error.step}", "error"
    late = [group for group in schedule.groups if group.group >= size and group.lr]
    for scheduled in late:
        given = scheduled.before.get("lr") or scheduled.lr.first
        label = groups[scheduled.group].label
        if given and scheduled.lr.peak > 1.01 * given:
            peak = scheduled.lr.peak
            return f"{label} goes from {rate(given)} to {rate(peak)}, {peak / given:.3g}× its rate", "error"
        if scheduled.lr.constant() and not schedule.groups[0].lr.constant():
            return f"{label} stays at {rate(scheduled.lr.first)}", "error"
    if not late:
        return "what becomes of the new group was not simulated", "warning"
    return f"{groups[late[0].group].label} follows the others all the same", "info"
