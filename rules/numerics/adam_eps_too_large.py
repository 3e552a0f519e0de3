"""The eps of an Adam-like optimizer is so large that it replaces the normalisation: gradient descent is left.

The update is m / (sqrt(v) + eps), in LAMB, Prodigy and Adagrad as in Adam. Gradients are usually far below 1e-2; then
sqrt(v) vanishes beside eps, every element moves in proportion to its gradient, and the rate loses its meaning. A decay
or a rate in the place of eps (positional arguments, a swapped line in a configuration) is how it happens.

What to do: 1e-8 (the default); reinforcement learning uses 1e-5 to 3e-4 on purpose.

Reported from `limit` on for groups whose algorithm adds eps to the root of the second moment (Adam and its relatives,
LAMB, Prodigy, Adagrad); published recipes stay at 3e-4 and below. Not for RMSprop: recipes from TensorFlow use 1e-3 to
1 (MnasNet, Inception) and are tuned for it.

Sources: https://arxiv.org/abs/1412.6980, https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html,
https://arxiv.org/abs/1710.02298 (Rainbow: 1.5e-4), https://arxiv.org/abs/1904.00962 (LAMB: 1e-6),
https://arxiv.org/abs/1512.00567 (Inception: RMSprop with eps 1)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.facts.algorithms import EPS_AT_THE_ROOT
from lrlint.text.wording import count, number


@rule("LR606", severity="warning", confidence="high", needs=("optimizer",))
def adam_eps_too_large(setup: Setup, *, limit: float = 1e-2) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        found = {}
        for group in optimizer.groups:
            eps = group.number("eps")
            if group.family in EPS_AT_THE_ROOT and eps is not None and eps >= limit and group.trainable:
                found.setdefault(eps, []).append(group)
        for eps, groups in found.items():
            yield Finding(
                groups,
                f"eps {number(eps)} of {optimizer.class_name} outweighs the gradients' size in "
                f"{count(len(groups), 'group')}: updates are proportional to the gradient, as in plain SGD",
                data={"eps": eps},
                help="1e-8 is the default; check that no other value took its place",
                key="eps",
            )
