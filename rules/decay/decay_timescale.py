"""The time scale of weight decay does not fit the length of the run.

Decoupled decay makes the weights an average over the last 1 / (lr × weight_decay) steps of updates. Wang & Aitchison
find that this time scale should be not much below one epoch and not much above the whole run, whatever the model:
below that the weights forget data they have not seen again, above it decay has no effect.

What to do: choose the time scale in epochs and set `weight_decay = 1 / (lr * steps)`.

*Info* below `short` or above `long` of a run of at least 1000 steps, by the mean rate of the schedule (the decay that acts
over the run is its integral); *warning* below `epochs` of an epoch (where `steps_per_epoch` is declared). Published recipes
go up to some 130 runs (fine-tuning with a decay that does nothing), few beyond. Left out: no decay, a decay that is the
class's default and was not chosen, and optimizers whose rate is a multiplier.

Sources: https://proceedings.mlr.press/v267/ (Wang & Aitchison, "How to set AdamW's weight decay as you scale model and
dataset size", PMLR 267:62222), https://arxiv.org/abs/2405.13698
"""

from collections.abc import Iterator
from itertools import pairwise

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, peak
from lrlint.text.wording import number, rate

_FEW = 1000  # below, the declared steps are often epochs


@rule("LR314", severity="info", confidence="medium", needs=("optimizer", "total_steps"))
def decay_timescale(
    setup: Setup, *, epochs: float = 0.1, short: float = 0.02, long: float = 100.0
) -> Iterator[Finding]:
    total, epoch = setup.training.total_steps, setup.training.steps_per_epoch
    if total < _FEW:
        return
    for optimizer in setup.optimizers:
        found = {}
        for group in optimizer.groups:
            judged = group.decoupled and group.trainable and optimizer.family != "lr-free"
            chosen = NEGLIGIBLE_DECAY < group.weight_decay != optimizer.class_defaults.get("weight_decay")
            if judged and chosen and peak(group):
                found.setdefault((_mean(setup, group), group.weight_decay), []).append(group)
        for (lr, decay), groups in found.items():
            steps = 1 / (lr * decay)
            forgets = epoch is not None and epoch < total and steps < epochs * epoch
            if not forgets and short * total <= steps <= long * total:
                continue
            against = f"{steps / epoch:.2g} of an epoch" if forgets else f"{steps / total:.3g} runs of {total} steps"
            yield Finding(
                groups,
                f"mean lr {rate(lr)} × weight decay {number(decay)} has a time scale of {steps:.3g} steps, {against}"
                + (": the weights forget what they have seen once" if steps < total else ": decay is in effect off"),
                data={"steps": steps, "lr": lr, "weight_decay": decay},
                help="weight_decay = 1 / (lr * time scale in steps), between an epoch and the run",
                key="weight_decay",
                severity="warning" if forgets else "",
            )


def _mean(setup, group):
    """The mean rate over the simulated run; the peak rate without one."""
    for schedule in setup.schedules:
        for scheduled in schedule.groups:
            trace = scheduled.lr if (schedule.optimizer, scheduled.group) == (group.optimizer, group.index) else None
            if trace is not None and schedule.has_declared_horizon and trace.steps[-1] > trace.steps[0]:
                pairs = list(zip(trace.steps, trace.values, strict=True))
                area = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(pairs))
                return float(f"{area / (trace.steps[-1] - trace.steps[0]):.6g}") or peak(group)
    return peak(group)
