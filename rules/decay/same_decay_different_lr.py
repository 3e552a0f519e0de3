"""Groups share a weight decay while their rates differ widely: they are not decayed alike.

In torch's AdamW (and Lion, Muon) the decay per step is lr × weight_decay. A head at ten times the backbone's rate
with the same `weight_decay` is decayed ten times as strongly.

What to do: scale the decay by 1 / lr where equal strength is meant; otherwise accept it.

Off by default: most discriminative setups are like this and train well. Reported once per optimizer and decay when
the peak rates differ by `ratio` or more, layer-wise ladders included.

Sources: https://github.com/NVIDIA/apex/issues/1849, https://github.com/facebookresearch/schedule_free/issues/47,
https://github.com/marin-community/levanter/pull/1147
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, peak, rated
from lrlint.text.wording import number, rate


@rule("LR315", severity="info", confidence="medium", needs=("optimizer",), default=False)
def same_decay_different_lr(setup: Setup, *, ratio: float = 10.0) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if optimizer.family == "lr-free":
            continue
        alike = {}
        for group in rated(optimizer):
            if group.decoupled and group.weight_decay > NEGLIGIBLE_DECAY:
                alike.setdefault(group.weight_decay, []).append(group)
        for decay, groups in alike.items():
            slow, fast = min(groups, key=peak), max(groups, key=peak)
            times = peak(fast) / peak(slow)
            if times < ratio * (1 - 1e-9):
                continue
            yield Finding(
                groups,
                f"{len(groups)} groups share weight decay {number(decay)} at rates from {rate(peak(slow))} to "
                f"{rate(peak(fast))}: {fast.label} decays {times:.3g}× as fast as {slow.label}",
                data={"weight_decay": decay, "slowest": peak(slow), "fastest": peak(fast), "ratio": times},
                help="scale weight_decay by 1 / lr where equal strength is meant",
                key="weight_decay",
            )
