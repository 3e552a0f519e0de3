"""A learning-rate-free optimizer is given rates that it cannot use.

Prodigy and D-Adaptation estimate the rate and multiply `lr` onto it: `lr` belongs at 1. Different non-zero rates in
several groups raise "Setting different lr values in different parameter groups is only supported for values of 0" at
the first step, or silently use the first group's. A rate of 1e-4 kept from AdamW makes training ten thousand times
too slow.

What to do: `lr=1.0` in every group (0 switches a group off), and `d_coef` to scale the estimate.

*Error* for different non-zero rates; *warning* for a peak rate outside 0.1 to 10. Left alone: implementations that
estimate per group (`split_groups=True`).

Sources: https://github.com/kohya-ss/sd-scripts/issues/1929, https://github.com/bmaltais/kohya_ss/issues/1160,
https://github.com/kohya-ss/sd-scripts/issues/555, https://github.com/konstmish/prodigy/issues/27
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak, rated
from lrlint.text.wording import listing, rate


@rule("LR207", severity="error", confidence="high", needs=("optimizer",))
def lr_free_optimizer_lr(setup: Setup, *, low: float = 0.1, high: float = 10.0) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if optimizer.family != "lr-free":
            continue
        groups = rated(optimizer)
        rates = sorted({peak(group) for group in groups})
        if len(rates) > 1 and not optimizer.flags.get("split_groups"):
            shown = listing([*map(rate, rates[:4]), *([f"{len(rates) - 4} more"] if len(rates) > 4 else [])])
            yield Finding(
                groups,
                f"{optimizer.class_name} estimates one rate for all groups, but they have {shown}",
                data={"rates": rates},
                help="lr=1.0 in every group; 0 switches a group off",
                key="lr",
            )
        odd = [group for group in groups if not low <= peak(group) <= high]
        if odd:
            given = listing(map(rate, sorted({peak(group) for group in odd})))
            yield Finding(
                odd,
                f"lr {given} multiplies the rate that {optimizer.class_name} estimates: it belongs at 1",
                data={"rates": sorted({peak(group) for group in odd})},
                help="lr=1.0; scale the estimate with d_coef",
                key="lr",
                severity="warning",
            )
