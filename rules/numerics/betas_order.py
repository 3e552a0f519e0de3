"""beta1 is larger than beta2: the pair was probably swapped.

The mean of the gradients should forget faster than the mean of their squares. With beta1 well above beta2 the
direction lags behind the size it is divided by, and steps grow when gradients change. Convergence of Adam is proven for
beta1 < sqrt(beta2) only.

What to do: (0.9, 0.999), or (0.9, 0.95) for large transformers.

Reported when beta1 exceeds beta2 by more than `margin` in every group of an optimizer; one group alone is a choice
(nanochat), as are three betas (Adan, AdEMAMix).

Sources: https://arxiv.org/abs/1412.6980, https://arxiv.org/abs/2208.09632 (when Adam converges)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import number


@rule("LR607", severity="warning", confidence="medium", needs=("optimizer",))
def betas_order(setup: Setup, *, margin: float = 0.03) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        groups = [group for group in optimizer.groups if group.trainable]
        pairs = [_pair(group) for group in groups]
        if not pairs or not all(pair and pair[0] > pair[1] + margin for pair in pairs):
            continue
        first, second = pairs[0]
        yield Finding(
            groups,
            f"beta1 {number(first)} is above beta2 {number(second)} in {optimizer.label}: swapped?",
            data={"beta1": first, "beta2": second},
            help="betas=(0.9, 0.999) is the usual order",
            key="betas",
        )


def _pair(group):
    betas = group.options.get("betas")
    if not isinstance(betas, (list, tuple)) or len(betas) != 2:
        return None
    return tuple(betas) if all(isinstance(beta, (int, float)) for beta in betas) else None
