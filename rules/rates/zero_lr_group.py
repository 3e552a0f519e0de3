"""A group has rate 0 while others train, and nothing will raise it.

It costs a backward pass and optimizer state, and learns nothing. A rate of 0 as a way to freeze is better said with
`requires_grad_(False)`; a rate of 0 as a placeholder needs code that replaces it.

What to do: freeze the parameters and leave them out, or give the group its rate. Declare `manual_schedule=True` where
the training loop sets the rates and is not seen to (in its source, `optimizer.param_groups` get a new `lr`).

*Warning* where other groups of the optimizer are above 0 and it has no scheduler. *Info* where all groups are at 0:
that is how training loops that set rates themselves start out (VICReg, YOLOX). Silent with a scheduler (see
`zero-lr-freeze`), for groups that are frozen or empty, and for learning-rate-free optimizers, where 0 switches a
group off.

Sources: reproduced with torch 2.13 (moments accumulate at rate 0: the first step after raising it jumps by the full
rate); https://github.com/facebookresearch/vicreg, https://github.com/Megvii-BaseDetection/YOLOX"""

from lrlint import Finding, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR204", severity="warning", confidence="medium", needs=("optimizer",))
def zero_lr_group(setup):
    scheduled = {s.optimizer for s in setup.schedules if not s.wiring.dropped}
    if setup.manual_schedule:
        return
    for optimizer in setup.optimizers:
        groups = [group for group in optimizer.groups if group.trainable and group.lr is not None]
        zero = [group for group in groups if group.lr == 0 and not group.peak_lr]
        if not zero or optimizer.index in scheduled or optimizer.family == "lr-free":
            continue
        if len(zero) == len(groups):
            yield Finding(
                optimizer,
                f"{'its only group has' if len(zero) == 1 else f'all {len(zero)} groups have'} rate 0 and there is no "
                "scheduler: a placeholder that the training loop must replace",
                data={"groups": len(zero)},
                help="give it a rate, or declare `manual_schedule=True`",
                key="lr",
                severity="info",
            )
            continue
        for group in zero:
            yield Finding(
                group,
                f"{group.label} has rate 0 and no scheduler will raise it: {count(len(group.trainable), 'parameter')} "
                f"never train: {describe(p.name for p in group.trainable)}",
                data={"group": group.index, "parameters": len(group.trainable)},
                help="requires_grad_(False) and leave them out of the optimizer, or give the group its rate",
                key="lr",
            )
