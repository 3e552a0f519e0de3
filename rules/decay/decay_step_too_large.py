"""Rate × weight decay is so large that the weights lose half their size within a few dozen steps.

A decoupled optimizer multiplies the weights by 1 − lr × weight_decay at every step. Judge the product, not the decay:
published recipes use decays from 1e-8 to 1.4, and products up to 5.6e-3. At 1e-2 half of a weight is gone after 69
steps, and at 1 everything after one. It happens when a decay is ported from a framework that does not multiply by the
rate (TensorFlow Addons, optimi with `decouple_lr`, Composer's DecoupledAdamW), or with a slip of the exponent.

What to do: lower weight decay (or the rate). From a framework that does not multiply: divide its decay by the rate.

SGD adds the decay to the gradient, and momentum sums it: weights shrink by lr × weight_decay / (1 − momentum) per step,
which is judged by `coupled` (published recipes: at most 0.1, airbench's biases at 0.72 × 0.021 and momentum 0.85).
Behind a normalisation (Adam with L2) decay has no such meaning.

Reported per rate and decay, at the largest product the schedule reaches, when the shrinkage exceeds `limit`;
*error* from 1 on. Optimizers whose rate is a multiplier (Prodigy, D-Adaptation) are left out; optimizers that do not
multiply by the rate are judged by the decay alone.

Sources: https://github.com/NVIDIA/apex/issues/1849, https://github.com/KellerJordan/cifar10-airbench, https://github.com/tensorflow/addons/issues/844,
https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
"""

import math
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import labels
from lrlint.analysis.rate_course import rate_profile
from lrlint.text.wording import number, rate

_NO_RATE = ("lr-free", "adadelta", "lbfgs")


@rule("LR312", severity="warning", confidence="high", needs=("optimizer",))
def decay_step_too_large(setup: Setup, *, limit: float = 0.01, coupled: float = 0.2) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if optimizer.family in _NO_RATE:
            continue
        alone = bool(optimizer.flags.get("decouple_lr")) or optimizer.class_name.startswith("Decoupled")
        peaks = rate_profile(optimizer, setup.schedules).peak
        found = {}
        for group, highest, product in zip(optimizer.groups, peaks.rates, peaks.products, strict=True):
            step = group.weight_decay if alone else product
            kept = _momentum(group) if not group.decoupled and not alone else 0.0
            if kept is None or not group.trainable or step is None:
                continue
            if step / (1 - kept) <= (limit if group.decoupled or alone else coupled):
                continue
            found.setdefault((step / (1 - kept), highest, group.weight_decay, kept), []).append(group)
        for (step, highest, decay, kept), groups in found.items():
            how = f"weight decay {number(decay)}" if alone else f"lr {rate(highest)} × weight decay {number(decay)}"
            how += f" / (1 - momentum {number(kept)})" if kept else ""
            half = math.log(2) / -math.log1p(-step) if step < 1 else 0.0
            told = f"{half:.2g} step" + ("" if f"{half:.2g}" == "1" else "s")
            effect = f"half of a weight is gone after {told}" if step < 1 else "weights do not outlive a step"
            yield Finding(
                groups,
                f"{how} takes {step:.2g} of every weight per step in {labels(groups)}: {effect}",
                data={"step": step, "lr": highest, "weight_decay": decay, "half_life": half},
                help=f"keep it below {limit:g} (published recipes: at most 5.6e-3)",
                key="weight_decay",
                severity="error" if step >= 1 else "",
            )


def _momentum(group):
    """The share of the last step that SGD repeats; None for other algorithms, whose coupled decay is rescaled."""
    momentum = group.number("momentum") or 0.0
    if group.family != "sgd" or not 0 <= momentum < 1:
        return None
    return momentum if not group.number("dampening") else 0.0
