"""The decay and no-decay lists are swapped: norms and biases decay, the matrices do not.

Building both lists and handing them to the wrong groups leaves the matrices without regularisation and pulls norm
scales and biases to zero. Nothing fails; the model is only worse.

What to do: swap the lists.

Reported when at least `share` of the trainable norm scales and biases of an optimizer decay and at least `share` of its
dense, convolutional and recurrent weights do not. Frozen weights do not count: training only biases is another method.

Sources: https://github.com/ArrowLuo/CLIP4Clip/issues/11
"""

from lrlint import Finding, rule
from lrlint.analysis.param_groups import decays, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR305", severity="error", confidence="high", needs=("optimizer",))
def inverted_decay_groups(setup, *, share: float = 0.8):
    for optimizer in setup.optimizers:
        small, matrices = trainable(optimizer, "norm", "bias"), trainable(optimizer, "matrix")
        decayed, spared = small.where(decays), matrices.where(lambda member: not decays(member))
        if not decayed or not spared or len(decayed) < share * len(small) or len(spared) < share * len(matrices):
            continue
        yield Finding(
            decayed,
            f"{len(decayed)} of {count(len(small), 'norm or bias parameter')} decay, and {len(spared)} of "
            f"{count(len(matrices), 'matrix', 'matrices')} do not: {describe(m.name for m in decayed)} "
            f"instead of {describe(m.name for m in spared)}",
            related={"not decayed": spared},
            data={"decayed": len(decayed), "small": len(small), "spared": len(spared), "matrices": len(matrices)},
            help="swap the two lists",
            key="weight_decay",
            confidence="" if len(matrices) > 1 else "medium",
        )
