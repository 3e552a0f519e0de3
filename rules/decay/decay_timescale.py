"""The time scale of weight decay does not fit the length of the run.

Decoupled decay makes the weights an average over the last 1 / (lr × weight_decay) steps of updates. Wang & Aitchison
find that this time scale should be not much below one epoch and not much above the whole run, whatever the model:
below that the weights forget data they have not seen again, above it decay has no effect.

What to do: choose the time scale in epochs and set `weight_decay = 1 / (lr * steps)`.

Off by default. *Warning* below `epochs` of an epoch (where `steps_per_epoch` is declared), *info* above `runs` times
the declared number of steps. Left out: no decay, and optimizers whose rate is a multiplier.

Sources: https://proceedings.mlr.press/v267/ (Wang & Aitchison, "How to set AdamW's weight decay as you scale model and
dataset size", PMLR 267:62222), https://arxiv.org/abs/2405.13698
"""

from lrlint import Finding, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, peak
from lrlint.text.wording import number, rate


@rule("LR314", severity="info", confidence="medium", needs=("optimizer", "total_steps"), default=False)
def decay_timescale(setup, *, epochs: float = 0.1, runs: float = 100.0):
    total, epoch = setup.training.total_steps, setup.training.steps_per_epoch
    for optimizer in setup.optimizers:
        found = {}
        for group in optimizer.groups:
            judged = group.decoupled and group.trainable and optimizer.family != "lr-free"
            if judged and peak(group) and group.weight_decay > NEGLIGIBLE_DECAY:
                found.setdefault((peak(group), group.weight_decay), []).append(group)
        for (lr, decay), groups in found.items():
            steps = 1 / (lr * decay)
            short = epoch is not None and steps < epochs * epoch
            if not short and steps <= runs * total:
                continue
            against = f"{steps / epoch:.2g} of an epoch" if short else f"{steps / total:.3g} runs of {total} steps"
            yield Finding(
                groups,
                f"lr {rate(lr)} × weight decay {number(decay)} has a time scale of {steps:.3g} steps, {against}"
                + (": the weights forget what they have seen once" if short else ": decay is in effect off"),
                data={"steps": steps, "lr": lr, "weight_decay": decay},
                help="weight_decay = 1 / (lr * time scale in steps), between an epoch and the run",
                key="weight_decay",
                severity="warning" if short else "",
            )
