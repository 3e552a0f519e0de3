"""The optimizer decays some normalisation scales and spares others: its no-decay filter missed a spelling or a class.

A norm scale has its natural value at 1, and decay pulls it to 0; most training code exempts it. The exemption is
usually a list of name fragments, and models spell their norms in many ways: `LayerNorm`, `layer_norm`, `ln_1`,
`norm1`, `norm_f`. What the list misses is decayed without a word. Of 573 architectures built from transformers
configurations, 86 have norm weights that the Trainer's own patterns miss, 68 of them beside norm weights that they
spare.

What to do: choose by the owner's type (`isinstance(module, nn.LayerNorm)`, or the class name contains "norm"), or by
`parameter.ndim <= 1`, not by the parameter's name.

Compared are the trainable norm scales of one optimizer, within parts of the model whose matrices decay: a layer or
head that is spared as a whole follows a policy of its own. *Info* where only query and key norms are treated apart (a
published option of Megatron's Qwen3-Next) and where the decayed ones sit in groups that hold a part of the model as a
whole (`model.head.parameters()`: no filter there that could have missed them). Lower confidence where the user wrote
the decay on groups that hold norms alone. Where all scales decay see `norms-decayed-biases-exempt` and
`decay-on-norm`. The severity is that of the survey of published recipes (one of 158 sound setups mixes, on purpose).

Sources: https://github.com/huggingface/transformers/issues/16908 (`lm_head.layer_norm`),
https://github.com/huggingface/transformers/pull/35927, https://github.com/huggingface/transformers/issues/42754,
https://github.com/facebookresearch/detectron2/issues/737, https://github.com/fastai/fastai2/pull/519
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import (
    DecayPolicyByModule,
    WholeModuleGroups,
    chosen,
    decays,
    distinction,
    is_query_key_norm,
    trainable,
)
from lrlint.text.names import describe, star
from lrlint.text.wording import count, listing, number


@rule("LR301", severity="warning", confidence="high", needs=("optimizer",))
def inconsistent_norm_decay(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        parts = DecayPolicyByModule(optimizer.members)
        decayed, spared = trainable(optimizer, "norm").where(parts.decay).split(decays)
        if not decayed or not spared:
            continue
        wholes = WholeModuleGroups(optimizer.members)
        missed = decayed.where(lambda member, wholes=wholes: not wholes.hold(member))
        unfiltered = not missed
        decayed = missed or decayed
        strengths = sorted({member.weight_decay for member in decayed})
        yield Finding(
            decayed,
            f"{count(len(decayed), 'norm scale')} decayed at {listing(map(number, strengths))}, {len(spared)} spared: "
            f"{describe(m.name for m in decayed)} as opposed to {describe(m.name for m in spared)}"
            + _cause(decayed, spared),
            related={"spared": spared},
            data={"decayed": len(decayed), "spared": len(spared), "weight_decay": strengths},
            help="exempt by the owner's type (isinstance) or `parameter.ndim <= 1` instead of by name",
            key="weight_decay",
            severity="info" if unfiltered or _split_on_purpose(decayed, spared) else "",
            confidence="medium" if chosen(decayed, "weight_decay", ("norm", "bias")) else "",
        )


def _split_on_purpose(decayed, spared):
    """Query and key norms decayed alone, or all norms in groups of their own that set these apart."""
    if all(map(is_query_key_norm, decayed)):
        return not any(map(is_query_key_norm, spared))
    apart = all(map(is_query_key_norm, spared)) and not any(map(is_query_key_norm, decayed))
    return apart and chosen([*decayed, *spared], "weight_decay", ("norm", "bias"))


def _cause(decayed, spared):
    classes = distinction(decayed, spared, lambda member: member.module_class)
    modules = distinction(decayed, spared, lambda member: star(member.module.rpartition(".")[2]))
    return f"; the filter knows {classes or modules}" if classes or modules else ""
