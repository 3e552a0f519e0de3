"""One group changes a hundred times faster or slower, relative to its weights, than every other.

Measured: the median of ‖update‖/‖weights‖ over the steps, about 1e-3 in most well-tuned setups. A group far from all
others often has a rate from another optimizer or a typing error in its exponent.

What to do: compare its rate with the others', or take it as meant.

Information only. Groups with a matrix are compared, a ladder of layer-wise rates has no gap and is left alone, and so
is a group whose weights start near zero.

Sources: https://cs231n.github.io/neural-networks-3/#ratio, https://karpathy.github.io/2019/04/25/recipe/
"""

import math
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, groups
from lrlint.text.wording import number, rate

_NEAR_ZERO = 1e-3  # root mean square of weights that have yet to grow


@rule("LR911", severity="info", confidence="medium", needs=("probe",))
def update_ratio_outlier(setup: Setup, *, factor: float = 100.0) -> Iterator[Finding]:
    facts = setup.probe
    known = {pair for low in facts.too_low for pair in low.groups}  # LR912 and LR913 say what that costs
    remaining = [g for g in facts.groups if (g.optimizer, g.index) not in known]
    judged = [g for g in remaining if g.update_ratio and _comparable(setup, g)]
    if len(judged) < 2 or facts.verdict not in ("stable", "inconclusive", "too-low"):
        return
    for group in judged:
        gaps = [math.log(group.update_ratio / other.update_ratio) for other in judged if other is not group]
        if min(abs(gap) for gap in gaps) < math.log(factor) or (min(gaps) < 0 < max(gaps)):
            continue
        if len(judged) == 2 and gaps[0] < 0:
            continue  # of two, the fast one is named
        others = sorted(other.update_ratio for other in judged if other is not group)
        yield Finding(
            groups(setup, [(group.optimizer, group.index)]),
            f"a step changes `{group.label}` at {rate(group.lr)} by {number(group.update_ratio)} of its weights, the "
            f"other groups by {number(others[0])}{f' to {number(others[-1])}' if len(others) > 1 else ''}",
            data={"update_ratio": group.update_ratio, "others": others},
            help="compare its rate with theirs",
            key="lr",
            confidence=confidence(facts, "medium"),
        )


def _comparable(setup, group):
    """The group has matrices, and weights that are not yet to grow from zero."""
    trainable = [p for g in groups(setup, [(group.optimizer, group.index)]) for p in g.trainable]
    size = sum(p.numel for p in trainable)
    return any(p.role == "matrix" for p in trainable) and (group.weights or 0) > _NEAR_ZERO * math.sqrt(max(size, 1))
