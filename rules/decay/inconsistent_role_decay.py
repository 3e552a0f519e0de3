"""A few of many repeated layers are decayed differently from their siblings.

`blocks.3.attn.qkv.weight` without decay beside eleven that decay is a pattern that matched by accident (a number, a
fragment of a name), or a list built by hand that lost one. In the survey of published setups this was always a fault.

What to do: build groups by role and type; print the groups once, compressed by pattern (`lrlint show`).

Compared are trainable parameters of one optimizer with the same name up to numbers, the same role and the same number
of dimensions; norm scales and biases have rules of their own. Reported when there are at least `members` of them with
exactly two decays, and at most `minority` have the rarer one. A layer that is treated alike as a whole (all matrices
of `layers.0` without decay) is a layer-wise policy and left out.

Sources: https://github.com/hysts/pytorch_image_classification/issues/31 (weights in the no-decay group),
https://github.com/ArrowLuo/CLIP4Clip/issues/11
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, trainable
from lrlint.text.names import describe, numbered_prefixes, star
from lrlint.text.wording import count, number


@rule("LR306", severity="warning", confidence="medium", needs=("optimizer",))
def inconsistent_role_decay(setup: Setup, *, members: int = 3, minority: float = 0.4) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        judged = trainable(optimizer).where(lambda member: member.role not in ("norm", "bias"))
        families = []
        for family in judged.by(lambda member: (star(member.name), member.role, member.ndim)).values():
            treated = sorted(family.by(_decay).items(), key=lambda item: len(item[1]))
            if len(family) >= members and len(treated) == 2 and len(treated[0][1]) <= minority * len(family):
                families.append(treated)
        rare_ones = {member.index for (_, odd), _ in families for member in odd}
        layers = _layers(judged) if families else {}
        for (rare, odd), (usual, rest) in families:
            unexplained = [member for member in odd if not _policy(member, layers, rare_ones)]
            if not unexplained:
                continue
            yield Finding(
                unexplained,
                f"{describe(m.name for m in unexplained)} has weight decay {number(rare)}, its "
                f"{count(len(rest), 'sibling')} {number(usual)}: {describe(m.name for m in rest)}",
                related={"siblings": rest},
                data={"members": len(unexplained), "siblings": len(rest), "weight_decay": rare, "usual": usual},
                help="give repeated layers one treatment; a filter by name may have matched a fragment",
                key="weight_decay",
            )


def _decay(member):
    return member.weight_decay if member.weight_decay > NEGLIGIBLE_DECAY else 0.0


def _layers(judged):
    """Numbered part of the model → its matrices."""
    found = {}
    for member in judged:
        if member.role == "matrix":
            for prefix in numbered_prefixes(member.name):
                found.setdefault(prefix, []).append(member)
    return found


def _policy(member, layers, rare_ones):
    """Whether a layer around the member is treated alike as a whole, and apart from its siblings as a whole."""
    for rank, prefix in enumerate(numbered_prefixes(member.name)):
        matrices = layers.get(prefix, ())
        if all(_decay(matrix) == _decay(member) for matrix in matrices):
            others = [matrix for matrix in matrices if matrix.index != member.index]
            if any(other.index in rare_ones for other in others) or (rank == 0 and not others):
                return True
    return False
