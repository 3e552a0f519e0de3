"""The decay and no-decay lists are swapped: norms and biases decay, the matrices do not.

Building both lists and handing them to the wrong groups leaves the matrices without regularisation and pulls norm
scales and biases to zero. Nothing fails; the model is only worse.

What to do: swap the lists.

Reported too for single blocks of a deep model whose matrices are all spared while their norms and biases decay, beside
blocks that are treated the other way round (one swapped pair among the groups of a layer-wise ladder).

Reported when at least `share` of the trainable norm scales and biases of an optimizer decay and at least `share` of its
dense, convolutional and recurrent weights do not. Frozen weights do not count: training only biases is another method.

Sources: https://github.com/ArrowLuo/CLIP4Clip/issues/11
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import decays, enclosing_modules, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR305", severity="error", confidence="high", needs=("optimizer",))
def inverted_decay_groups(setup: Setup, *, share: float = 0.8) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        small, matrices = trainable(optimizer, "norm", "bias"), trainable(optimizer, "matrix")
        decayed, spared = small.where(decays), matrices.where(lambda member: not decays(member))
        if not decayed or not spared or len(decayed) < share * len(small) or len(spared) < share * len(matrices):
            yield from _blocks(small, matrices)
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


def _blocks(small, matrices):
    """The numbered blocks that are inverted as a whole, where others are as they should be."""
    vectors, weights = small.by(_block), matrices.by(_block)
    both = [path for path in vectors if path and path in weights]
    inverted = [p for p in both if all(map(decays, vectors[p])) and not any(map(decays, weights[p]))]
    sound = [p for p in both if all(map(decays, weights[p])) and not any(map(decays, vectors[p]))]
    if not inverted or len(sound) <= len(inverted):
        return
    decayed = [member for path in inverted for member in vectors[path]]
    spared = [member for path in inverted for member in weights[path]]
    yield Finding(
        decayed,
        f"in {describe(inverted)} norms and biases decay and the matrices do not, in {count(len(sound), 'other block')} "
        "it is the other way round",
        related={"not decayed": spared},
        data={"blocks": inverted, "others": len(sound)},
        help="swap the two groups of these blocks",
        key="weight_decay",
    )


def _block(member):
    """The innermost numbered block around the member, as a path; "" without one."""
    return next((path for path in enclosing_modules(member.module) if path.rpartition(".")[2].isdigit()), "")
