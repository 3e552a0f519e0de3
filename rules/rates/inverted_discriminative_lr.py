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
from lrlint.analysis.param_groups import by_family, exceeds, peak, rated
from lrlint.text.module_names import side
from lrlint.text.names import describe
from lrlint.text.wording import listing, rate, times


@rule("LR208", severity="warning", confidence="medium", needs=("optimizer",))
def inverted_discriminative_lr(setup: Setup, *, factor: float = 3.0) -> Iterator[Finding]:
    uses = setup.graph.parameters if setup.graph else {}
    for groups in (found for optimizer in setup.optimizers for found in by_family(rated(optimizer)).values()):
        body, head, rest = ([g for g in groups if _side(g) == name] for name in ("backbone", "head", ""))
        if body and not head:
            head = [group for group in rest if _is_output(group, uses) and _runs_before(body, [group], uses)]
        if head and not body:
            body = [group for group in rest if _is_bulk(group, setup) and _runs_before([group], head, uses)]
        if not body or not head or len({peak(group) for group in body}) > 3:
            continue
        slow, fast = max(map(peak, head)), max(map(peak, body))
        if not exceeds(fast / slow, factor) or _runs_before(head, body, uses):
            continue
        if _outweighs(head, body) or _is_probe(head, body, uses):
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


def _side(group):
    """backbone, head or "": the side that the group's parameters are on, a tenth that says nothing aside."""
    sizes = {"backbone": 0, "head": 0, "": 0}
    for parameter in group.trainable:
        sizes["head" if parameter.is_head else side(parameter.module)] += parameter.numel
    name = max(sizes, key=lambda key: sizes[key])
    others = sum(sizes.values()) - sizes[name]
    plain = any(parameter.role == "matrix" for parameter in group.trainable)
    return name if plain and others == sizes[""] and others <= 0.1 * sizes[name] else ""


def _uses(groups, uses):
    found = (uses.get(parameter.name) for group in groups for parameter in group.trainable)
    return [use for use in found if use is not None]


def _orders(groups, uses):
    return [use.order for use in _uses(groups, uses) if use.order is not None]


def _runs_before(first, second, uses):
    """Whether the forward pass was seen to run all of the first groups before the second ones."""
    early, late = _orders(first, uses), _orders(second, uses)
    return bool(early and late) and max(early) < min(late)


def _is_output(group, uses):
    """Whether the group holds the layer that yields the output."""
    found = (uses.get(parameter.name) for parameter in group.trainable if parameter.role == "matrix")
    return any(use is not None and use.reaches_output and use.depth_from_output == 0 for use in found)


def _outweighs(head, body):
    """Whether the head is a decoder with more weights than the backbone: a model of its own."""
    decoder, encoder = ([p for group in groups for p in group.trainable] for groups in (head, body))
    named = all("decoder" in parameter.module.split(".") for parameter in decoder if parameter.role == "matrix")
    return named and sum(p.numel for p in decoder) > sum(p.numel for p in encoder)


def _is_bulk(group, setup):
    """Whether the group holds most of what the optimizers train, and not tables alone."""
    sizes = [sum(p.numel for p in other.trainable) for optimizer in setup.optimizers for other in optimizer.groups]
    layers = any(parameter.role == "matrix" for parameter in group.trainable)
    return layers and 2 * sum(parameter.numel for parameter in group.trainable) > sum(sizes)


def _is_probe(head, body, uses):
    """Whether the head reads what the backbone makes, but no gradient leads back: it only measures what is learnt."""
    measured, learnt = ({end for use in _uses(groups, uses) for end in use.outputs} for groups in (head, body))
    return bool(measured and learnt) and not measured & learnt
