"""A rung is missing in the ladder of layer-wise rates.

With layer-wise decay each layer has the rate of the next one times d. Counting the layers wrong by one (the pooler
that was removed, an embedding that was not counted) leaves a step of d² at the head or at the stem, and the last
layer trains at d² of the head's rate.

What to do: recount the layers: one for the stem, one per block, one for the head.

Off by default: ELECTRA's published recipe itself has the gap. Reported when the distinct peak rates of an optimizer
(at least `rungs`) have one constant ratio within `tolerance`, but for the first or the last step, which is its
square.

Sources: https://github.com/google-research/electra/issues/51, https://github.com/google-research/electra/issues/64
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak, rated
from lrlint.text.wording import rate


@rule("LR211", severity="info", confidence="medium", needs=("optimizer",), default=False)
def layer_decay_ladder_gap(setup: Setup, *, rungs: int = 5, tolerance: float = 0.02) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        groups = {peak(group): group for group in rated(optimizer)}
        rates = sorted(groups)
        if len(rates) < rungs:
            continue
        steps = [low / high for low, high in pairwise(rates)]
        ratio = sorted(steps)[len(steps) // 2]
        odd = [place for place, step in enumerate(steps) if not math.isclose(step, ratio, rel_tol=tolerance)]
        if len(odd) != 1 or odd[0] not in (0, len(steps) - 1):
            continue
        if not math.isclose(steps[odd[0]], ratio**2, rel_tol=tolerance):
            continue
        low, high = rates[odd[0]], rates[odd[0] + 1]
        yield Finding(
            [groups[low], groups[high]],
            f"layer-wise rates fall by {ratio:.3g} per layer, but by {steps[odd[0]]:.3g} from {rate(high)} to "
            f"{rate(low)}: {'the stem' if odd[0] == 0 else 'the last layer'} is one rung too low",
            data={"ratio": ratio, "gap": steps[odd[0]], "high": high, "low": low},
            help="recount the layers: one for the stem, one per block, one for the head",
            key="lr",
        )
