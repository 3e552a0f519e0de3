"""Updates are lost in bfloat16: a step at this rate is less than half of the gap to the next number.

bfloat16 has 8 significant bits. A weight near 1 has neighbours 2^-8 below and 2^-7 above, and rounding to nearest
drops any update below half of that. A norm scale of 1 stands still below a rate of 2e-3 (measured: no movement in 100
steps at 1.9e-3). Of weights drawn from N(0, 0.02) the first step of AdamW moves 88 % at 1e-4, 30 % at 2e-5 and 2 % at
1e-6.

What to do: keep float32 parameters and use autocast, or an optimizer with stochastic rounding or Kahan summation.

Judged on the sampled values of the trainable bfloat16 parameters under Adam-like and sign optimizers, whose largest
usual step is the rate: the share of elements with rate < 2^(e - 9), where 2^(e-1) <= |w| < 2^e (zeros can move). The
prediction agrees with measured first steps to 3 digits. *Warning* where the share over a group reaches `stuck`, or the
rate is below 2e-6 and something stays; *info* from `info` on: pure bfloat16 fine-tuning at 1e-5 or 2e-5 is published practice.

Left alone: optimizers that keep float32 copies, round stochastically or sum compensated; SGD (its step needs the
gradient); float32 parameters under autocast.

Sources: https://arxiv.org/abs/2010.06192, https://github.com/pytorch/ao/pull/1124,
https://github.com/meta-pytorch/torchtune/issues/2254, https://github.com/pytorch/pytorch/issues/120376; measured with
torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak
from lrlint.text.names import describe
from lrlint.text.wording import rate

_TINY_RATE = 2e-6


@rule("LR604", severity="warning", confidence="high", needs=("optimizer", "values"))
def bf16_update_underflow(setup: Setup, *, stuck: float = 0.95, info: float = 0.5) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if optimizer.master_weights:
            continue
        found = {}
        for group in optimizer.groups:
            step = peak(group) if group.lr and group.family in ("adam", "sign") else 0.0
            judged = [p for p in group.trainable if p.dtype == "bfloat16" and p.values and p.values.finite]
            elements = sum(p.numel for p in judged)
            if not step or not elements:
                continue
            share = sum(_stuck(p.values, step) * p.numel for p in judged) / elements
            severe = share >= stuck or (step < _TINY_RATE and share > 0)
            if severe or share >= info:
                found.setdefault((step, severe), []).append((group, share, judged))
        for (step, severe), entries in found.items():
            shares = [share for _, share, _ in entries]
            low, high = min(shares), max(shares)
            span = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
            named = describe(p.name for _, _, judged in entries for p in judged)
            yield Finding(
                [group for group, _, _ in entries],
                f"{span} of the bfloat16 weights stay where they are, as a step at {rate(step)} is less than half of "
                f"their precision: {named}",
                data={"lr": step, "share": high, "least": low},
                help="float32 parameters with autocast, or stochastic rounding or Kahan summation",
                key="lr",
                severity="" if severe else "info",
            )


def _stuck(values, step):
    """Share of the elements that a step of this size leaves as they are."""
    return sum(share for exponent, share in values.exponents.items() if step < 2.0 ** (int(exponent) - 9))
