"""Adafactor chooses its own rate (`relative_step`), and a rate or a scheduler was given as well.

With `relative_step=True` the rate follows from the step number, and `lr` is ignored. A scheduler multiplies a rate that
the optimizer overwrites, or None: runs ended at rates of 1.6e-31. `warmup_init` works with `relative_step` only.
`scale_parameter` multiplies the rate by the size of the weights; at 1e-2 or more that is not what was meant.

What to do: `relative_step=False, scale_parameter=False, lr=1e-3` with a scheduler, or neither rate nor scheduler.

*Warning* for `scale_parameter` with a rate of at least `scaled`. `AdafactorSchedule` only reports and is left
alone, as is `torch.optim.Adafactor`, which has none of these options.

Sources: https://github.com/huggingface/transformers/issues/11612, https://github.com/facebookresearch/ParlAI/pull/2547,
https://github.com/jettify/pytorch-optimizer/issues/535, https://github.com/huggingface/transformers/issues/7789
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import listing, rate


@rule("LR609", severity="error", confidence="high", needs=("optimizer",))
def adafactor_relative_step_conflict(setup: Setup, *, scaled: float = 1e-2) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if optimizer.family != "adafactor":
            continue
        ours = [schedule for schedule in setup.schedules if schedule.optimizer == optimizer.index]
        schedules = [schedule for schedule in ours if schedule.class_name != "AdafactorSchedule"]
        reported = len(schedules) < len(ours)
        for group in optimizer.groups:
            relative, lr = group.options.get("relative_step"), _given(group, reported)
            warmup = group.options.get("warmup_init") and relative is False
            conflicts = [f"lr {rate(lr)}"] if lr is not None else []
            conflicts += [f"{schedule.class_name}" for schedule in schedules]
            if relative and conflicts:
                message = f"relative_step chooses the rate, which conflicts with {listing(conflicts)}"
                yield _finding(group, message, "relative_step=False, or no rate and no scheduler", "relative_step")
            elif warmup:
                message = "warmup_init needs relative_step=True, which is off"
                yield _finding(group, message, "warmup_init=False with a warm-up of the scheduler", "warmup_init")
            elif relative is False and group.options.get("scale_parameter") and lr is not None and lr >= scaled:
                message = f"scale_parameter multiplies lr {rate(lr)} by the size of each weight"
                yield _finding(group, message, "scale_parameter=False for a rate of your own", "lr", "warning")


def _given(group, reported):
    """The rate that the user gave; `AdafactorSchedule` writes the optimizer's own rate in its place, to report it."""
    if "lr" in group.requested:
        return group.requested["lr"]
    return None if reported else group.lr


def _finding(group, message, advice, key, severity=""):
    data = {"lr": group.lr, "relative_step": group.options.get("relative_step")}
    return Finding(group, f"{group.label}: {message}", data=data, help=advice, key=key, severity=severity)
