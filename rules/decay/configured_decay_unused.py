"""A weight decay was given to the optimizer, and every group overrides it with 0.

The value passed to the constructor is only a default for groups that do not state their own. Helpers that build groups
with a hard-coded `weight_decay: 0.0` (LoRA+ builders, for one) leave it without effect, and nothing says so.

What to do: pass the decay where the groups are built, or drop the argument.

Reported when the optimizer's default is above 0, is not the class's own default, and no group with parameters decays.

Sources: https://github.com/axolotl-ai-cloud/axolotl/issues/4010,
https://github.com/facebookresearch/fairseq (per-group overrides that never apply)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY
from lrlint.text.wording import number


@rule("LR311", severity="warning", confidence="medium", needs=("optimizer",))
def configured_decay_unused(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        configured = optimizer.defaults.get("weight_decay")
        if isinstance(configured, bool) or not isinstance(configured, (int, float)) or configured <= NEGLIGIBLE_DECAY:
            continue
        groups = [group for group in optimizer.groups if group.parameters]
        if configured == optimizer.class_defaults.get("weight_decay") or not groups:
            continue
        if any(group.weight_decay > 0 for group in groups):
            continue
        yield Finding(
            optimizer,
            f"weight_decay {number(configured)} was given to {optimizer.label}, but "
            + ("its only group has 0" if len(groups) == 1 else f"all {len(groups)} groups have 0"),
            related={"overriding": groups},
            data={"configured": configured, "groups": len(groups)},
            help="set weight_decay in the groups that should decay, or drop the argument",
            key="weight_decay",
        )
