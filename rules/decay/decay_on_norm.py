"""Weight decay is applied to all normalisation scales alike.

Decay pulls a norm scale towards 0 although its natural value is 1, and without a gradient it only shrinks. How much is
said in the message: at a given rate and decay, over the declared number of steps (else over 1000 steps). Many
published recipes decay everything and train well (OLMo, torchtitan, DETR, ViT, diffusers, ResNet under SGD), so this
is *info*: an effect to know, not a fault. It is there in 27 % of the sound setups of
our survey.

What to do: if it was not meant, put norm scales and biases in a group of their own with `weight_decay` 0.

One finding per optimizer, never one per parameter. Silent where some norm scales are spared
(`inconsistent-norm-decay`) or biases are (`norms-decayed-biases-exempt`), and for a decay of 1e-8 and below.

Sources: https://arxiv.org/abs/1812.01187 (no bias decay), https://github.com/karpathy/minGPT/pull/24,
https://github.com/facebookresearch/ClassyVision/pull/392 and https://github.com/torch/torch7/issues/846 (recipes that
decay batch norm on purpose), https://github.com/mmcdermott/MEDS_EIC_AR/issues/30
"""

import math
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, DecayPolicyByModule, decays, peak, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count, listing, number


@rule("LR302", severity="info", confidence="high", needs=("optimizer",))
def decay_on_norm(setup: Setup, *, bias_share: float = 0.8) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        parts = DecayPolicyByModule(optimizer.members)
        scales = trainable(optimizer, "norm").where(parts.decay)
        biases = trainable(optimizer, "bias").where(parts.decay)
        exempt = len(biases) - len(biases.where(decays))
        if not scales or not all(map(decays, scales)) or (biases and exempt >= bias_share * len(biases)):
            continue
        shifts = biases.where(lambda m: m.module_kind.startswith("norm") and decays(m))
        strengths = sorted({member.weight_decay for member in scales})
        empty = any(not group.parameters and group.weight_decay <= NEGLIGIBLE_DECAY for group in optimizer.groups)
        yield Finding(
            scales,
            f"every norm scale ({len(scales)})"
            + (f" and {count(len(shifts), 'norm shift')}" if shifts else "")
            + f" decayed at {listing(map(number, strengths))}{_shrinkage(setup, scales)}: "
            + describe(m.name for m in scales)
            + ("; the group without decay is empty" if empty else ""),
            data={"scales": len(scales), "shifts": len(shifts), "weight_decay": strengths},
            help="a group with weight_decay 0 for norm-owned parameters, or `parameter.ndim <= 1`",
            key="weight_decay",
        )


def _shrinkage(setup, scales):
    """How far the most decayed scale falls if its gradient is zero, in words; nothing for coupled adaptive decay."""
    steps = setup.training.total_steps or 1000
    group = max((member.group for member in scales), key=lambda g: peak(g) * g.weight_decay)
    step = peak(group) * group.weight_decay
    if not step or step >= 1 or not (group.decoupled or group.family == "sgd"):
        return ""
    momentum = 0.0 if group.decoupled else group.number("momentum") or 0.0
    share = -math.expm1(steps * math.log1p(-step) / max(1 - momentum, 1e-3))
    when = f"over the run's {steps} steps" if setup.training.total_steps else f"in {steps} steps at full rate"
    return f", where a scale without gradient loses up to {share:.2g} of itself {when}"
