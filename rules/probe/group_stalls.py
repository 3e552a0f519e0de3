"""A group's weights hardly move while the others learn.

Its update is below the resolution of its weights, or smaller by a factor of ten thousand than what the fastest group
of matrices does.

What to do: raise its rate, or freeze it openly with `requires_grad_(False)`.

Off by default: a slow group is often meant (a backbone that is fine-tuned), and the probe cannot tell what the user
waits for. What was verified to cost the training something is LR913's, and not repeated here.

Sources: https://karpathy.github.io/2019/04/25/recipe/, https://cs231n.github.io/neural-networks-3/#ratio (ratio of
updates to weights, about 1e-3)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import groups
from lrlint.text.wording import number, rate


@rule("LR905", severity="warning", confidence="low", needs=("probe",), default=False)
def group_stalls(setup: Setup, *, below: float = 1e-4) -> Iterator[Finding]:
    facts = setup.probe
    moving = [g for g in facts.groups if g.update_ratio and g.pushed]
    if facts.verdict not in ("stable", "inconclusive", "too-low") or len(moving) < 2:
        return
    known = {pair for low in facts.too_low for pair in low.groups}
    fastest = max(g.update_ratio for g in moving)
    for group in moving:
        if (group.optimizer, group.index) not in known and group.update_ratio < below * fastest:
            yield Finding(
                groups(setup, [(group.optimizer, group.index)]),
                f"`{group.label}` at {rate(group.lr)} changes by {number(group.update_ratio)} of its weights per step, "
                f"another group by {number(fastest)}",
                data={"update_ratio": group.update_ratio, "fastest": fastest},
                help="raise its rate, or freeze it openly",
                key="lr",
            )
