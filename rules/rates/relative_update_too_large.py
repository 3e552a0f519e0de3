"""One step changes the weights of a group by a large part of their size.

Adam's first step moves every element by the rate itself, Lion's every step does, and Muon's by a factor that follows
from the matrix's shape. Divided by the root mean square of the weights this is the relative change per step, and 1e-3
is a good one: at 1 the initialisation (or what was pretrained) is gone after one step.

What to do: lower the rate, add a warm-up, or check the initialisation.

For each rate of an Adam-like, sign or Muon optimizer: the median over its matrices, weighted by size, of rate × c /
rms. Adam: the first rate with c = 1, and the peak after a warm-up with c = 0.2 (the size of its update once the
moments have settled). Muon: c = 0.87 / √max(rows, columns) × √max(1, rows / columns), or 0.174 with
`match_rms_adamw`, as measured. *Warning* above `warning`, *error* above `error`; *info* above `info` where no warm-up
is seen and the training loop does not set rates by hand. Lower limits (a warning from 0.05) fire on ConvNeXt (4e-3 on
weights of 0.02), MAE, SetFit heads, graph networks at 0.01 and the Muon speed runs.

Left out: biases, norms, tables, adapters, and matrices that start (nearly) at zero (rms below 1e-3: zero-initialised
layers and fine-tuning heads), and what `group-lr-far-above-siblings` reports.

Sources: measured with torch 2.13 (first step of AdamW predicted to 3 digits; Muon's update),
https://cs231n.github.io/neural-networks-3/#ratio (ratio of updates to weights), https://arxiv.org/abs/2502.16982
(update size of AdamW and Muon), https://github.com/PeizeSun/OneNet/issues/18
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import labels, outlier, peak, rated
from lrlint.analysis.step_sizes import first_rate, median_change
from lrlint.text.wording import count, rate

_SETTLED = 0.2


@rule("LR206", severity="warning", confidence="medium", needs=("optimizer", "values"))
def relative_update_too_large(
    setup: Setup, *, info: float = 0.05, warning: float = 1.0, error: float = 10.0
) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        pools, alone = {}, outlier(optimizer, 1e3)
        judged = [group for group in rated(optimizer) if group.family in ("adam", "sign", "muon")]
        for group in (group for group in judged if group is not alone):
            first, warm = first_rate(setup, group)
            pools.setdefault((group.family, peak(group), first, warm), []).append(group)
        for (family, highest, first, warm), groups in pools.items():
            step = max(first, _SETTLED * highest) if family == "adam" and warm else highest
            change, weights = median_change(groups, step)
            if change <= info or (warm and change <= warning):
                continue
            yield Finding(
                groups,
                f"a step at {rate(step)} changes the {count(weights, 'matrix', 'matrices')} of {labels(groups)} by "
                f"{change:.2g} of their size{'' if warm else ', from the first one on'}",
                data={"change": change, "lr": highest, "first_lr": first, "matrices": weights},
                help="lower the rate or add a warm-up; about 1e-3 of the weights per step is usual",
                key="lr",
                severity="error" if change > error else "warning" if change > warning else "info",
            )
