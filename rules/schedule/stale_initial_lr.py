"""The scheduler scales a rate that is not the group's: an `initial_lr` left by an earlier scheduler, or a stamped one.

A scheduler keeps its base rate in the group as `initial_lr` and a later one takes it from there, whatever `lr` says by
then. `LambdaLR` puts the old rate back at once; `CosineAnnealingLR` mixes both. A fresh run built with `last_epoch=0`
skips the first step of its schedule; one built with `last_epoch=n` on groups stamped with `initial_lr = lr` starts at
the full rate where the curve is lower.

What to do: `del group["initial_lr"]` before building the new scheduler, or set `lr` and `initial_lr` together; use
`last_epoch=-1` for a fresh run and load the scheduler's state to resume.

Where the optimizer carries state from a checkpoint, a decayed `lr` beside its `initial_lr` is what it should be; then
the rate must be the one that the scheduler set last, or the one of its curve at `last_epoch`: a scheduler built after
the load, with `last_epoch` set by hand, puts the full rate back. Silent where the rate was changed after the scheduler
was built (a warm-up of its own dampens it). Not judged for `OneCycleLR` and `CyclicLR`, which are told their rates.

Sources: https://github.com/pytorch/pytorch/issues/21965, https://github.com/mozilla/TTS/issues/57 (`last_epoch=0`),
https://github.com/akamaster/pytorch_resnet_cifar10/pull/14 (stamping), https://github.com/pytorch/pytorch/issues/60265,
https://github.com/ultralytics/yolov5/issues/292 (built after the load)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.analysis.schedule_faults import built_late, stale_base
from lrlint.text.wording import count, rate


@rule("LR406", severity="warning", confidence="high", needs=("optimizer", "schedule"))
def stale_initial_lr(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        if "cycle" in schedule.kinds:
            continue
        if optimizer.state_size:
            yield from _resumed(schedule, optimizer)
            continue
        said = built_late(schedule)
        if said:
            yield Finding(schedule, said, data={"last_epoch": schedule.position.constructed_at}, help=HELP)
            continue
        texts = {g.group: stale_base(schedule, g, optimizer.groups[g.group].label) for g in schedule.groups}
        stale = [index for index, text in texts.items() if text]
        if stale:
            subject = [schedule.of(*stale), *(optimizer.groups[index] for index in stale)]
            more = f"; so for {count(len(stale) - 1, 'other group')}" if len(stale) > 1 else ""
            yield Finding(
                subject, texts[stale[0]] + more, data={"group": stale[0], "groups": stale}, help=HELP, key="lr"
            )


HELP = "delete initial_lr from the groups before building a scheduler for a fresh run, and leave last_epoch at -1"


def _resumed(schedule, optimizer):
    """A rate that is neither the scheduler's last one nor that of its curve, in an optimizer that has state."""
    curve, last = schedule.position.curve, schedule.position.last_lrs
    off = []
    for scheduled in schedule.groups:
        group = scheduled.group
        now = scheduled.lr.first if scheduled.lr else None
        if not now or group >= (len(curve[0]) if curve else len(last)):
            continue
        allowed = [row[group] for row in curve] if curve else [last[group]]
        if not min(allowed) * 0.95 <= now <= max(allowed) * 1.05:
            off.append((group, now, allowed[len(allowed) // 2]))
    if off:
        index, now, meant = off[0]
        at = (
            f"its curve is at {rate(meant)} at step {schedule.position.start}"
            if curve
            else f"it set {rate(meant)} last"
        )
        yield Finding(
            [schedule.of(*(i for i, _, _ in off)), *(optimizer.groups[i] for i, _, _ in off)],
            f"{optimizer.groups[index].label} of the restored optimizer has lr {rate(now)}, but {schedule.class_name} does "
            f"not: {at}",
            data={"group": index, "lr": now, "expected": meant},
            help="build the scheduler before the optimizer's state is loaded, and load the scheduler's state too",
            key="lr",
        )
