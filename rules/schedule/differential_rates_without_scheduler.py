"""Groups have different learning rates, and no scheduler warms them up or anneals them.

Groups that are far apart in rate settle at different times: the fast ones keep moving at full rate while the slow ones
are still adapting, and a warm-up is what keeps a large ratio from damaging pretrained weights in the first steps. This
is advice (*info*), not a fault: more than half of published setups have no scheduler object, and a training loop may
set the rates by hand.

What to do: a scheduler that multiplies every group's rate keeps their ratio: `SequentialLR` of `LinearLR` and
`CosineAnnealingLR`, or one `LambdaLR` function for all groups.

Silent with equal rates, with any scheduler, for learning-rate-free optimizers, and where the training loop is
seen to set the rates, or `manual_schedule=True` is declared.

Sources: https://arxiv.org/abs/1801.06146 (discriminative rates go with slanted triangular rates),
https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from lrlint import Finding, rule
from lrlint.text.wording import rate, times


@rule("LR417", severity="info", confidence="high", needs=("optimizer",))
def differential_rates_without_scheduler(setup):
    if any(not s.wiring.dropped for s in setup.schedules) or setup.manual_schedule:
        return
    for optimizer in setup.optimizers:
        rated = [group for group in optimizer.groups if group.lr and group.parameters]
        if optimizer.family == "lr-free" or len({group.lr for group in rated}) < 2:
            continue
        slow, fast = min(rated, key=lambda g: g.lr), max(rated, key=lambda g: g.lr)
        yield Finding(
            optimizer,
            f"rates from {rate(slow.lr)} ({slow.label}) to {rate(fast.lr)} ({fast.label}), "
            f"{times(fast.lr / slow.lr)}× apart, and no scheduler",
            related={"slowest": slow, "fastest": fast},
            data={"slowest": slow.lr, "fastest": fast.lr, "ratio": fast.lr / slow.lr},
            help="a warm-up and an annealing that multiply every group's rate keep their ratio",
        )
