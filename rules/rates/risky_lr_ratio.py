"""The rates of one optimizer are very far apart.

Discriminative rates are normal: a new head at ten times the backbone's rate, layer-wise decay over a deep
transformer. In the survey of published recipes 79 % of optimizers have one rate, 93 % stay within a factor of 100,
and 99 % within 1000. Beyond that, one side practically does not train, or the other leaves the region where training
is stable; the usual cause is a slip of the exponent or a multiplier applied twice.

What to do: check both rates in the message; freeze what is not meant to train instead of giving it a tiny rate.

Compared are *peak* rates (of the simulated schedule; else `max_lr`, `initial_lr` or `lr`, times a multiplier key that
is not folded in yet) of groups that train something; rates of 0 are left out. *Info* above `info`, *warning* above
`warning`, *error* above `error`. Three families reach further on purpose, and are *info* up to `error`: layer-wise
decay (at least six rates, or a multiplier key that differs: 0.75 per layer over ViT-H is 13 273); groups at the high
rate that hold only tables, adapters (LoRA+ with embeddings: 3200), prompts or scalars; and free-standing tensors such
as splats (up to 31 250). Above `error` they are a warning. One group that sits alone above all others is
`group-lr-far-above-siblings` instead. Across optimizers rates have different units:
never more than *info*; the algorithms of one optimizer (Muon and Adam in one class) are not compared. The
threshold is strict: SetFit's body and head are exactly 1000 apart.

Sources: https://arxiv.org/abs/1801.06146 (discriminative fine-tuning), https://arxiv.org/abs/2402.12354 (LoRA+),
https://github.com/facebookresearch/mae (layer decay), https://github.com/graphdeco-inria/gaussian-splatting,
https://github.com/KellerJordan/modded-nanogpt, https://github.com/huggingface/setfit
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import by_family, exceeds, outlier, peak, rated, why_far_apart, written
from lrlint.text.names import describe
from lrlint.text.wording import rate, times


@rule("LR201", severity="warning", confidence="high", needs=("optimizer",))
def risky_lr_ratio(setup: Setup, *, info: float = 20.0, warning: float = 1e3, error: float = 1e5) -> Iterator[Finding]:
    everyone = []
    for optimizer in setup.optimizers:
        alone = outlier(optimizer, warning)
        everyone += by_family(g for g in rated(optimizer) if g is not alone and g.family != "lr-free").values()
    for groups in everyone:
        slow, fast = min(groups, key=peak), max(groups, key=peak)
        ratio = peak(fast) / peak(slow)
        if not exceeds(ratio, info):
            continue
        reason = why_far_apart(groups, warning)
        severe = exceeds(ratio, error), exceeds(ratio, warning)
        ranks = ("warning", "info") if reason else ("error", "warning")
        severity = next((rank for rank, reached in zip(ranks, severe, strict=True) if reached), "info")
        yield _finding(slow, fast, ratio, severity, f"; {reason}" if reason else "")
    if len(everyone) > 1:
        slow, fast = (pick((g for groups in everyone for g in groups), key=peak) for pick in (min, max))
        ratio = peak(fast) / peak(slow)
        if slow.optimizer != fast.optimizer and exceeds(ratio, warning):
            where = "; they belong to two optimizers, whose rates may have different units"
            yield _finding(slow, fast, ratio, "info", where)


def _finding(slow, fast, ratio, severity, why):
    return Finding(
        [fast, slow],
        f"rates {times(ratio)}× apart: {fast.label} at {rate(peak(fast))} ({_who(fast)}), "
        f"{slow.label} at {rate(peak(slow))} ({_who(slow)}){why}",
        data={"ratio": ratio, "fastest": peak(fast), "slowest": peak(slow)},
        help="check the exponents and multipliers; freeze what is not meant to train",
        key="lr",
        severity=severity,
        confidence="medium" if written((slow, fast), "lr") else "",
    )


def _who(group):
    return describe((parameter.name for parameter in group.trainable), limit=2)
