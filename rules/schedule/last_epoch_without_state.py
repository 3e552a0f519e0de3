"""The scheduler stands in the middle of its course, and the optimizer has not taken a step.

A factory that steps the scheduler (to look at the curve, in a loop that was to resume) leaves it there: training starts
at the rate of a later step, and reaches the end of the schedule early.

What to do: build a fresh scheduler; to resume, load the optimizer's state together with the scheduler's.

Reported for torch's schedulers that were stepped more than once after they were built (one call before training is the
order that torch had before 1.1), where the optimizer keeps state and has none. Not for SGD without momentum, which has no
state ever. A scheduler that was built with `last_epoch` is `stale-initial-lr`.

Sources: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate,
https://github.com/pytorch/pytorch/issues/21965
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.driven import driven
from lrlint.text.wording import rate


@rule("LR419", severity="warning", confidence="medium", needs=("optimizer", "schedule"))
def last_epoch_without_state(setup: Setup) -> Iterator[Finding]:
    for schedule, optimizer in driven(setup):
        start = schedule.position.start
        if start <= 1 or schedule.position.constructed_at is not None:
            continue
        stateless = all(g.family == "sgd" and not g.number("momentum") for g in optimizer.groups)
        if optimizer.state_size or stateless or not schedule.qualified.startswith("torch."):
            continue
        first = max((group.lr.first for group in schedule.groups if group.lr), default=None)
        yield Finding(
            schedule,
            f"{schedule.class_name} is {start} steps into its course before the first optimizer step"
            + ("" if first is None else f": training starts at {rate(first)}"),
            data={"start": start},
            help="build it anew, or load the optimizer's state as well",
        )
