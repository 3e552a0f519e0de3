"""Most biases are exempt from weight decay and some are not: the filter missed a spelling such as `in_proj_bias`.

Filters that test `name.endswith(".bias")` miss `in_proj_bias` of multi-head attention, `bias_ih_l0` of recurrent
layers and `bias_k`: 5 of 11 biases in a model of an LSTM and an attention layer. torchvision's own reference filter
compares the whole parameter name with "bias" and misses the same ones.

What to do: `parameter.ndim <= 1`, or ask the owner module which of its parameters are biases.

Reported when at least `share` of an optimizer's biases are exempt and the rest decays, within parts of the model
whose matrices decay (a layer spared as a whole follows a policy of its own), and outside groups that hold a part of
the model as a whole (`model.head.parameters()`). Biases of norm layers are compared among themselves, and only where
all norm scales are exempt: a filter that exempts norms and decays other biases (detectron2) is consistent. Tables
such as `relative_position_bias_table` are no biases, and neither is what `parameter.ndim <= 1` leaves (`bias_k`).

Sources: reproduced with torch 2.13;
https://github.com/facebookresearch/vissl/pull/288 (a bias in the wrong list),
https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html (`in_proj_bias`)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import DecayPolicyByModule, WholeModuleGroups, decays, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count, listing, number


@rule("LR303", severity="warning", confidence="high", needs=("optimizer",))
def inconsistent_bias_decay(setup: Setup, *, share: float = 0.5) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        parts, wholes = DecayPolicyByModule(optimizer.members), WholeModuleGroups(optimizer.members)
        biases = trainable(optimizer, "bias").where(parts.decay)
        shifts, others = biases.split(lambda member: member.module_kind.startswith("norm"))
        if any(decays(member) for member in trainable(optimizer, "norm").where(parts.decay)):
            shifts = shifts[:0]
        for noun, found in (("norm shift", shifts), ("bias", others)):
            decayed, spared = found.split(decays)
            decayed = decayed.where(lambda member, wholes=wholes: not wholes.hold(member))
            if not decayed or len(spared) < share * len(found):
                continue
            if all(len(member.shape or ()) > 1 for member in decayed):
                continue  # `ndim <= 1` decays the extra key and value of attention, of shape (1, 1, width)
            strengths = sorted({member.weight_decay for member in decayed})
            plural = noun + ("s" if noun != "bias" else "es")
            yield Finding(
                decayed,
                f"{len(decayed)} of {count(len(found), noun, plural)} decayed at {listing(map(number, strengths))}, "
                f"the others exempt: {describe(m.name for m in decayed)}{_cause(decayed, spared)}",
                related={"exempt": spared},
                data={"decayed": len(decayed), "exempt": len(spared), "weight_decay": strengths},
                help="exempt by `parameter.ndim <= 1` or by the owner's type instead of by the end of the name",
                key="weight_decay",
            )


def _cause(decayed, spared):
    missed, known = (set(members.by(lambda member: member.leaf)) for members in (decayed, spared))
    if missed & known:
        return ""
    quoted = [listing(f"`{name}`" for name in sorted(names)[:3]) for names in (known, missed)]
    return f"; the filter knows {quoted[0]} and not {quoted[1]}"
