"""Weight decay is applied to scales and scalars whose natural value is not zero.

A logit scale, a temperature, LayerScale's gamma, the slope of a PReLU, the magnitude of a weight-norm, a
log-variance: decay pulls each of them to 0, which means something else than "small weights". With decay 0.1 on
everything a CLIP logit scale went from 14.28 to 1. PyTorch's documentation of PReLU says not to decay its slope.

What to do: a group with `weight_decay` 0 for them (`parameter.ndim <= 1` catches most).

A free-standing token is told too where the tokens and position tables of the same module and shape are exempt: a list
of names that forgot one (`reg_token` beside `cls_token` and `pos_embed`).

Told by owner type, name and shape. Silent where rate × decay × declared steps is below `effect`, so that the whole
run does not move them by as much. This is *info*: HF Trainer's own grouping does it for some 60 architectures, and
sound published setups do. Where the author marked them see `author-declared-no-decay-ignored`.

Sources: https://docs.pytorch.org/docs/stable/generated/torch.nn.PReLU.html,
https://github.com/mlfoundations/open_clip/issues/815, https://github.com/huggingface/pytorch-image-models/pull/2713
(`reg_token`)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import decays, peak, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count, listing, number

_WHAT = {"scalar": "scalar", "scale": "layer scale", "prelu": "PReLU slope", "wn_g": "weight-norm magnitude"}


@rule("LR309", severity="info", confidence="medium", needs=("optimizer",))
def decay_on_scalar_or_scale(setup: Setup, *, effect: float = 0.01) -> Iterator[Finding]:
    steps = setup.training.total_steps
    for optimizer in setup.optimizers:
        yield from _tokens(optimizer)
        found = trainable(optimizer, *_WHAT).where(
            lambda member: (
                decays(member)
                and not member.no_decay
                and (steps is None or peak(member.group) * member.weight_decay * steps >= effect)
            )
        )
        if not found:
            continue
        strengths = sorted({member.weight_decay for member in found})
        kinds = (count(len(members), _WHAT[role]) for role, members in found.by(lambda member: member.role).items())
        yield Finding(
            found,
            f"{listing(kinds)} decayed at {listing(map(number, strengths))}: {describe(m.name for m in found)}",
            data={"parameters": len(found), "weight_decay": strengths},
            help="a group with weight_decay 0 for what is not centred on zero",
            key="weight_decay",
        )


def _tokens(optimizer):
    """Tokens that decay while at least two others of their module with as many dimensions are exempt."""
    standing = trainable(optimizer, "token", "position").where(lambda member: member.module_kind != "embedding")
    for members in standing.by(lambda member: (member.module, member.ndim)).values():
        decayed, spared = members.split(decays)
        decayed = decayed.where(lambda member: member.role == "token")
        if decayed and len(spared) >= max(2, len(decayed)):
            yield Finding(
                decayed,
                f"{describe(m.name for m in decayed)} decayed, {describe(m.name for m in spared)} of the same module exempt",
                related={"exempt": spared},
                data={"parameters": len(decayed), "exempt": len(spared)},
                help="add it to the names that are exempt",
                key="weight_decay",
            )
