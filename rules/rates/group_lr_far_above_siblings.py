"""One group's rate sits alone, a thousand times above all others: a slip of the exponent.

`1e-1` for `1e-5`, a percentage where a fraction belongs, a multiplier applied to one group twice. The other groups
agree on an order of magnitude, this one holds ordinary weights, and in Adam its weights change by their own size
within a step or two.

What to do: correct the group's rate; compare with the other groups in the message.

Reported when one group of at least three is more than `factor` above the next, and holds dense, convolutional or
recurrent weights; it takes the place of `risky-lr-ratio` for that group, and of its error from `error` on. Exactly
1000 (a new head on a body, SetFit) is left alone, and so are layer-wise ladders. With two groups only it cannot be
told which of them is wrong: see `risky-lr-ratio`.

Sources: https://github.com/rajveermalviya/language-modeling/issues/3 (Adam at 1.0 from a configuration),
https://github.com/guillaumegenthial/sequence_tagging/issues/47, https://github.com/huggingface/setfit
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import exceeds, outlier, peak, rated
from lrlint.text.names import describe
from lrlint.text.wording import count, rate, times


@rule("LR202", severity="warning", confidence="medium", needs=("optimizer",))
def group_lr_far_above_siblings(setup: Setup, *, factor: float = 1e3, error: float = 1e5) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        group = outlier(optimizer, factor) if optimizer.family != "lr-free" else None
        if group is None:
            continue
        others = [other for other in rated(optimizer) if other is not group and other.family == group.family]
        nearest = max(map(peak, others))
        lowest = min(map(peak, others))
        span = rate(nearest) if lowest == nearest else f"{rate(lowest)} to {rate(nearest)}"
        yield Finding(
            group,
            f"{group.label} trains at {rate(peak(group))}, {times(peak(group) / nearest)}× above the other "
            f"{count(len(others), 'group')} ({span}): {describe(p.name for p in group.trainable)}",
            related={"others": others},
            data={"lr": peak(group), "nearest": nearest, "lowest": lowest, "ratio": peak(group) / nearest},
            help="a slip of the exponent? give it a rate within a factor of 100 of the others",
            key="lr",
            severity="error" if exceeds(peak(group) / lowest, error) else "",
        )
