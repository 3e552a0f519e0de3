"""A parameter group holds nothing: its pattern matched no name, or its generator was used up.

Torch accepts an empty group. What was meant for it trains with another group's options, or not at all. DeepSpeed drops
empty groups, while a scheduler keeps a rate for each.

What to do: assert that every selector finds something; make lists of generators that are used twice.

*Warning* where an override is lost: the group's rate is no other group's, or it is the one without decay while norms
and biases decay elsewhere. *Info* where what it was meant for is probably frozen: a part of the model that no optimizer
holds trains nothing (DETR with a frozen backbone), or only adapters train and none of them belongs to an embedding.
Silent where a library wrote the groups: builders that return fixed groups leave some of them empty (transformers'
Trainer, PEFT's LoRA+ two by default). An optimizer without any parameter is refused by torch (*error*).

Sources: https://github.com/deepspeedai/DeepSpeedExamples/pull/756, https://github.com/modelscope/ms-swift/issues/2723,
https://github.com/huggingface/peft/issues/3499 (embedding adapters in the group of the A matrices);
reproduced with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import decays
from lrlint.text.wording import listing, number, rate


@rule("LR108", severity="warning", confidence="high")
def empty_param_group(setup: Setup) -> Iterator[Finding]:
    for rejection in setup.rejections:
        if rejection.kind == "empty":
            message = f"torch refuses to build {rejection.class_name}: it was given no parameter"
            yield Finding(
                rejection,
                message,
                help="a generator that was used up, or a filter that matched nothing",
                severity="error",
            )
    frozen = _frozen(setup)
    for optimizer in (o for o in setup.optimizers if not o.groups_from):
        filled = [group for group in optimizer.groups if group.parameters]
        for group in (g for g in optimizer.groups if not g.parameters):
            lost = _lost(optimizer, group, filled)
            yield Finding(
                group,
                f"{group.label} of {optimizer.label} is empty"
                + (f": its {listing(lost)} applies to nothing" if lost else ""),
                data={"lr": group.lr, "weight_decay": group.weight_decay},
                help="a pattern that matches nothing, or a generator that was used up",
                key="params",
                severity="" if lost and not frozen else "info",
            )


def _frozen(setup):
    """Whether what a selector did not find may be frozen: a part of the model trains nothing, or adapters alone train."""
    live = [p for p in setup.parameters if p.origin == "model" and p.requires_grad]
    if live and all(p.role in ("lora_A", "lora_B") for p in live):
        return not any(p.leaf.startswith("lora_embedding") or "lora_embedding" in p.name for p in live)
    parts, training = (
        {p.module.partition(".")[0] for p in found}
        for found in ([p for p in setup.parameters if p.origin == "model" and p.index not in setup.membership], live)
    )
    return bool(parts - training - {""})


def _lost(optimizer, group, filled):
    """The options of an empty group that somebody meant for parameters which are elsewhere."""
    lost = []
    if filled and group.lr is not None and all(other.lr != group.lr for other in filled):
        lost.append(f"lr {rate(group.lr)}")
    small = optimizer.parameters("norm", "bias")
    if not decays(group) and any(map(decays, small)) and all(map(decays, filled)):
        lost.append(f"weight decay {number(group.weight_decay)}")
    return lost
