"""Biases are exempt from weight decay and normalisation scales are not: the filter caught half of what it was for.

Whoever exempts biases nearly always means "everything that is not a matrix". The list `["bias", "LayerNorm.weight"]`,
written for BERT and copied everywhere, exempts biases in every model, but in GPT-2 (`ln_1`), Llama (`input_layernorm`),
T5, CLIP, ViT or Swin not one norm weight.

What to do: choose by the owner's type or by `parameter.ndim <= 1`, and assert that the no-decay group holds every norm.

Reported when every trainable norm scale of an optimizer decays and at least `bias-share` of its biases do not (parts
of the model whose matrices are spared as a whole are left out). *Warning* for layer and RMS norms under Adam-like
optimizers; *info* for batch and instance norms and under SGD, where bias-only exemption is an old convention (Caffe,
re-identification code).

Sources: https://github.com/deepspeedai/DeepSpeedExamples/pull/755 (the list matched no norm of OPT, Llama or Bloom),
https://github.com/huggingface/transformers/issues/4360,
https://github.com/huggingface/transformers/blob/00661e38/examples/pytorch/language-modeling/run_clm_no_trainer.py
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import ADAPTIVE, DecayPolicyByModule, chosen, decays, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count, listing, number


@rule("LR304", severity="warning", confidence="high", needs=("optimizer",))
def norms_decayed_biases_exempt(setup: Setup, *, bias_share: float = 0.8) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        parts = DecayPolicyByModule(optimizer.members)
        scales = trainable(optimizer, "norm").where(parts.decay)
        biases = trainable(optimizer, "bias").where(parts.decay)
        exempt = biases.where(lambda member: not decays(member))
        if not scales or not exempt or not all(map(decays, scales)) or len(exempt) < bias_share * len(biases):
            continue
        conventional = all(m.module_kind in ("norm:batch", "norm:instance") for m in scales)
        strengths = sorted({member.weight_decay for member in scales})
        yield Finding(
            scales,
            f"{len(exempt)} of {count(len(biases), 'bias', 'biases')} exempt from decay, but no norm scale is: "
            f"{describe(m.name for m in scales)} ({len(scales)}) decayed at {listing(map(number, strengths))}",
            related={"exempt biases": exempt},
            data={"scales": len(scales), "biases": len(biases), "exempt": len(exempt), "weight_decay": strengths},
            help="exempt by the owner's type (isinstance) or `parameter.ndim <= 1` instead of by name",
            key="weight_decay",
            severity="info" if conventional or optimizer.family not in ADAPTIVE else "",
            confidence="medium" if chosen(scales, "weight_decay", ("norm",)) else "",
        )
