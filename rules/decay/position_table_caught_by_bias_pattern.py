"""A table or matrix is exempt from weight decay because its name contains "bias" or "norm".

`"bias" in name` also catches `relative_position_bias_table` (Swin) and `relative_attention_bias` (T5), which are
tables of two and more dimensions; `"norm" in name` catches whole sub-networks called so. Few matrices without decay
among many with it point to the same slip.

What to do: anchor the pattern (`name.endswith("bias")`), or test `parameter.ndim <= 1`; ignore it where it is meant.

Off by default: many recipes exempt these tables on purpose. Left out are parameters that the model declares as
exempt, heads, tied weights, and position and token tables.

Sources: https://github.com/microsoft/Swin-Transformer (exempts its table by keyword),
https://github.com/hysts/pytorch_image_classification/issues/31
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import decays, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count

_FRAGMENT = re.compile(r"bias|norm", re.IGNORECASE)


@rule("LR313", severity="info", confidence="medium", needs=("optimizer",), default=False)
def position_table_caught_by_bias_pattern(setup: Setup, *, share: float = 0.5) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        tables = trainable(optimizer, "matrix", "embedding", "relative_position").where(
            lambda m: (m.ndim or 0) >= 2 and not m.no_decay and not m.is_head and len(m.names) == 1
        )
        decayed, spared = tables.split(decays)
        if not decayed or not spared:
            continue
        caught = spared.where(lambda member: _FRAGMENT.search(member.name))
        matrices = tables.where(lambda member: member.role == "matrix")
        rest = spared.where(lambda member: member.role == "matrix" and not _FRAGMENT.search(member.name))
        few = rest if len(spared.where(lambda m: m.role == "matrix")) < share * len(matrices) else rest[:0]
        for found, why in ((caught, "its name contains a fragment of the filter"), (few, "most other matrices decay")):
            if found:
                yield Finding(
                    found,
                    f"{count(len(found), 'table or matrix', 'tables or matrices')} exempt from decay, and "
                    f"{why}: {describe(m.name for m in found)}",
                    related={"decayed": decayed},
                    data={"exempt": len(found), "decayed": len(decayed)},
                    help="anchor the pattern, or test `parameter.ndim <= 1`",
                    key="weight_decay",
                )
