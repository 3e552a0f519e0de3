"""The pretrained backbone trains faster than the head.

In discriminative fine-tuning the backbone keeps what it knows with a low rate, and the new head learns with a high
one. Swapped rates overwrite the backbone while the head is still random.

What to do: swap the rates; or ignore the finding where the backbone starts from scratch.

Reported when the groups of an optimizer show both sides (one holds only backbone or encoder parameters, the other
only those of a head, classifier or decoder) and the backbone's rate is more than `factor` times the head's. Sides are
told by names and by which layer is the output; where the forward pass could be observed, the backbone must run before
the head, and one named side suffices: a group that runs wholly after the backbone and holds the output layer is its
head, and one that runs wholly before the head and holds most of the model is its backbone. Left alone: projectors
(LLaVA's is the slow side on purpose), adapters and prompts inside the backbone, a probe from which no gradient leads
back to the backbone, rates of 0, layer-wise ladders (see `non-monotone-layer-lr`), and a decoder with more weights
than the encoder before it: that is a pretrained language model behind a new encoder, and no head. Factor 3 left all
sound setups of our survey silent; 2 did not.

Sources: https://github.com/roboflow/rf-detr/issues/255 (an encoder above its decoder),
https://github.com/facebookresearch/detr/issues/95, https://arxiv.org/abs/1801.06146
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.model_sides import is_bulk, is_output, is_probe, outweighs, runs_before, side_of
from lrlint.analysis.param_groups import by_family, exceeds, peak, rated
from lrlint.text.names import describe
from lrlint.text.wording import listing, rate, times


@rule("LR208", severity="warning", confidence="medium", needs=("optimizer",))
def inverted_discriminative_lr(setup: Setup, *, factor: float = 3.0) -> Iterator[Finding]:
    uses = setup.graph.parameters if setup.graph else {}
    for groups in (found for optimizer in setup.optimizers for found in by_family(rated(optimizer)).values()):
        body, head, rest = ([g for g in groups if side_of(g) == name] for name in ("backbone", "head", ""))
        if body and not head:
            head = [group for group in rest if is_output(group, uses) and runs_before(body, [group], uses)]
        if head and not body:
            body = [group for group in rest if is_bulk(group, setup) and runs_before([group], head, uses)]
        if not body or not head or len({peak(group) for group in body}) > 3:
            continue
        slow, fast = max(map(peak, head)), max(map(peak, body))
        if not exceeds(fast / slow, factor) or runs_before(head, body, uses):
            continue
        if outweighs(head, body) or is_probe(head, body, uses):
            continue
        yield Finding(
            [group for group in body if peak(group) == fast],
            f"the backbone ({_who(body)}) trains at {rate(fast)} and the head ({_who(head)}) at "
            f"{listing(map(rate, sorted({peak(group) for group in head})))}: {times(fast / slow)}× the other way round",
            related={"head": head},
            data={"backbone": fast, "head": slow, "ratio": fast / slow},
            help="swap the two rates, unless the backbone starts from scratch",
            key="lr",
        )


def _who(groups):
    return describe((parameter.name for group in groups for parameter in group.trainable), limit=2)
