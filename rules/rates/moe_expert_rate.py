"""Experts of a mixture, or what routes to them, are treated as no recipe does.

An expert sees a share of the tokens, and Adam normalises its gradient all the same: some recipes give experts a somewhat
higher or lower rate, none more than a few times. The bias that balances the load without a loss (DeepSeek-V3) is moved by
its own rule, by a constant step against each expert's load: an optimizer that holds it moves it by the loss as well, and
weight decay pulls it, and a router's bias, towards routing everything alike.

What to do: one rate for experts and dense layers (or a factor below 4); keep load-balancing biases out of the optimizer.

*Warning* for a trainable load-balancing bias in an optimizer at a rate above 0. *Info* for expert matrices at more than
`factor` times the rate of the dense ones (Adam-like groups of one optimizer), and for a decayed router bias beside exempt
biases.

Sources: https://arxiv.org/abs/2408.15664 and https://arxiv.org/abs/2412.19437 (load balancing without a loss),
https://arxiv.org/abs/2101.03961 (Switch Transformers), https://arxiv.org/abs/2409.02060 (OLMoE: one rate)
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import decays, exceeds, peak, trainable
from lrlint.text.names import describe
from lrlint.text.wording import rate

_EXPERT = re.compile(r"(^|[._])experts?([._]|\d|$)", re.IGNORECASE)
_ROUTER = re.compile(r"(^|[._])(router|gate|gating)(_?(net|layer|proj|linear))?$", re.IGNORECASE)
_BALANCE = re.compile(r"^(e_score_correction_bias|expert_bias|routing_bias|load_balanc\w*bias|moe_statics\w*)$")


@rule("LR215", severity="warning", confidence="medium", needs=("optimizer",))
def moe_expert_rate(setup: Setup, *, factor: float = 4.0) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        live = trainable(optimizer)
        if not any(_EXPERT.search(m.module) or _BALANCE.match(m.leaf) for m in live):
            continue
        balance = live.where(lambda m: _BALANCE.match(m.leaf) and peak(m.group))
        if balance:
            yield Finding(
                balance,
                f"{describe(m.name for m in balance)}: a load-balancing bias is trained by the optimizer, beside the rule "
                "that moves it",
                data={"parameters": len(balance)},
                help="register it as a buffer, or keep it out of the groups",
            )
        routers = live.where(lambda m: m.role == "bias" and _ROUTER.search(m.module) and decays(m))
        if routers and any(m.role == "bias" and not decays(m) for m in live):
            text = f"{describe(m.name for m in routers)}: a router's bias is decayed, other biases are exempt"
            yield Finding(routers, text, help="exempt it like the others", key="weight_decay", severity="info")
        rated = live.where(lambda m: m.group.family == "adam" and m.role == "matrix" and peak(m.group))
        experts, dense = rated.split(lambda m: _EXPERT.search(m.module) is not None)
        if experts and dense:
            fast, usual = (max(peak(m.group) for m in members) for members in (experts, dense))
            if exceeds(fast / usual, factor):
                yield Finding(
                    experts.where(lambda m, fast=fast: peak(m.group) == fast),
                    f"experts train at {rate(fast)}, the dense layers at {rate(usual)} at most: {fast / usual:.3g}×",
                    related={"dense": dense},
                    data={"experts": fast, "dense": usual, "ratio": fast / usual},
                    help="recipes use one rate; check the multiplier",
                    key="lr",
                    severity="info",
                )
