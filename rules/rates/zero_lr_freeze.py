"""A group is "frozen" by a rate of 0 that its scheduler never raises, while its parameters still require gradients.

Backward pass and optimizer state are paid for as if it trained, batch norms in it keep updating their statistics, and
moments accumulate: when the rate is raised later, the first step jumps (measured: after ten steps at rate 0, with a
gradient of zero, AdamW with lr 0.1 moves by 0.0996, SGD with momentum 0.9 by 3.0). A scheduler that multiplies never
leaves 0.

What to do: `requires_grad_(False)` and leave the parameters out of the optimizer; give the group a rate when it should
train.

Reported when a scheduler was simulated and the group stays at 0 while another one trains. A rate that rises within the
run is a warm-up or a staged schedule; without a scheduler see `zero-lr-group`. Silent for learning-rate-free
optimizers.

Sources: reproduced with torch 2.13;
https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.text.wording import count

#: Kinds of schedulers that multiply the group's rate, for which 0 stays 0 whatever the length of the run.
MULTIPLY = {"constant", "warmup", "decay", "lambda"}


@rule("LR205", severity="warning", confidence="medium", needs=("optimizer", "schedule"))
def zero_lr_freeze(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        if optimizer.family == "lr-free" or not any(group.lr and group.lr.peak > 0 for group in schedule.groups):
            continue
        for scheduled in schedule.groups:
            group = optimizer.groups[scheduled.group]
            if scheduled.lr is None or scheduled.lr.peak != 0 or scheduled.lr.floor != 0 or not group.trainable:
                continue
            if not schedule.has_declared_horizon and not set(schedule.kinds) <= MULTIPLY:
                continue
            yield Finding(
                [group],
                f"{group.label} stays at rate 0 under {schedule.class_name}: its "
                f"{count(len(group.trainable), 'parameter')} still cost a backward pass and collect moments",
                related={"scheduler": schedule},
                data={"group": group.index, "parameters": len(group.trainable)},
                help="requires_grad_(False) and leave the parameters out of the optimizer",
                key="lr",
            )
