"""The rate was not scaled with the batch, or scaled by something else: it is off from what the declared base asks for.

Recipes give a rate for a batch (`base_lr` at 256). With another effective batch (batch × accumulation × processes) SGD's
rate is scaled linearly, Adam's linearly or by the square root. Forgetting accumulation or the number of processes, or
counting them twice, puts it off by that factor.

What to do: `lr = base_lr * effective_batch / base_batch_size` (SGD), or times the root of that ratio (Adam family).

*Info*. Needs `base_lr`, `base_batch_size` and `batch_size` declared by the target. Compared is the fastest group's peak
rate; reported when it is off by more than `factor` from the linear rule, and for Adam-like optimizers from the square root
too. Other families are left alone.

Sources: https://arxiv.org/abs/1706.02677 (linear, SGD), https://arxiv.org/abs/2205.10287 (square root, Adam),
https://github.com/facebookresearch/mae (linear, AdamW: `blr * eff_batch_size / 256`)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import exceeds, peak, rated
from lrlint.text.wording import rate


@rule("LR214", severity="info", confidence="medium", needs=("optimizer",))
def batch_rate_scaling(setup: Setup, *, factor: float = 2.0) -> Iterator[Finding]:
    run, declared = setup.training, setup.training.options
    base, unit = (_positive(declared.get(key)) for key in ("base_lr", "base_batch_size"))
    if not base or not unit or not run.batch_size:
        return
    batch = run.batch_size * (run.accumulation or 1) * (run.world_size or 1)
    for optimizer in setup.optimizers:
        groups = [group for group in rated(optimizer) if group.family in ("sgd", "adam", "lars", "lamb")]
        if not groups:
            continue
        fast = max(groups, key=peak)
        wanted = [base * batch / unit]
        if fast.family in ("adam", "lamb"):
            wanted.append(base * (batch / unit) ** 0.5)
        if all(exceeds(max(peak(fast) / value, value / peak(fast)), factor) for value in wanted):
            yield Finding(
                fast,
                f"{rate(peak(fast))} for a batch of {batch}: {rate(base)} at {unit:.0f} asks for {rate(wanted[0])}"
                + (f" (or {rate(wanted[1])} by the square root)" if len(wanted) > 1 else ""),
                data={"lr": peak(fast), "batch": batch, "expected": wanted},
                help="scale by batch × accumulation × processes, once",
                key="lr",
            )


def _positive(value):
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
