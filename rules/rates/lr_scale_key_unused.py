"""Layer-wise decay stands in the groups as a key such as `lr_scale`, but nothing multiplies it: all layers train alike.

Torch keeps unknown group keys and ignores them. timm's `layer_decay` and the MAE family keep a multiplier per group and
rely on a scheduler that applies it (timm's own) or on a training loop that does. With a torch scheduler instead, every
layer runs at the same rate.

What to do: write the rate into the group (`lr = base_lr * scale`), or use a scheduler that reads the key.

Reported when the key has different values, the groups' rates are the same before and after the scheduler's steps, and
neither the optimizer's nor the scheduler's source reads the key. Without any scheduler this is *info*, as a training loop may
multiply by hand (MAE, BEiT, ConvNeXt); silent where its source is seen to set rates, or `manual_schedule=True` is declared.

Sources: https://github.com/huggingface/pytorch-image-models/pull/2532 (reproduced: 28 groups of timm, one rate),
https://github.com/facebookresearch/ConvNeXt-V2/issues/40, https://github.com/msight-tech/research-ms-loss/issues/27
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import MULTIPLIER_KEYS, number, rate


@rule("LR210", severity="error", confidence="high", needs=("optimizer",))
def lr_scale_key_unused(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        schedules = [s for s in setup.schedules if s.optimizer == optimizer.index]
        if not schedules and setup.manual_schedule:
            continue
        for key in MULTIPLIER_KEYS:
            scaled = [g for g in optimizer.groups if g.number(key) is not None and g.lr and g.parameters]
            values = {group.number(key) for group in scaled}
            if len(values) < 2 or key in (optimizer.reads or ()) or not _alike([group.lr for group in scaled]):
                continue
            if not all(_alike(rates) for rates in _scheduled(schedules, {g.index for g in scaled})):
                continue
            low, high = min(values), max(values)
            applied = f"{schedules[0].class_name} does not apply it" if schedules else "no scheduler applies it"
            yield Finding(
                scaled,
                f"`{key}` runs from {number(low)} to {number(high)} over {len(scaled)} groups, but all of them have "
                f"lr {rate(scaled[0].lr)}: {applied}",
                data={"key": key, "smallest": low, "largest": high, "lr": scaled[0].lr},
                help=f"multiply it into each group's lr, or use a scheduler that reads `{key}`",
                key=key,
                severity="" if schedules else "info",
            )


def _alike(rates):
    return max(rates) - min(rates) <= 1e-6 * max(rates)


def _scheduled(schedules, indices):
    """The groups' rates at the first, highest and last point of each simulated schedule."""
    for schedule in schedules:
        traces = [group.lr for group in schedule.groups if group.group in indices and group.lr]
        if traces:
            yield from ([getattr(trace, name) for trace in traces] for name in ("first", "peak", "last"))
