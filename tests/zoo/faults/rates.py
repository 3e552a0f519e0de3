"""Faults of the rates of groups."""

from __future__ import annotations

from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from zoo.groupings import layerwise
from zoo.seeding import LR, Fault, Sound, seed

LADDERS = ("bert", "roberta", "gpt2", "gpt_neox", "llama", "qwen3", "mixtral", "vit")


@seed("LR202")
def one_exponent_slipped(sound: Sound) -> Fault:
    sound.options[1]["lr"] = 1e4 * LR
    return Fault(sound.model, sound.adamw(), groups=[(0, 1)], also=("LR201", "LR203", "LR206", "LR312", "LR507"))


@seed("LR201")
def two_groups_six_orders_apart(sound: Sound) -> Fault:
    sound.options[0]["lr"] = 1e-6 * LR
    return Fault(
        sound.model, sound.adamw(), parameters=[*sound.lists[0], *sound.lists[1]], also=("LR203", "LR208", "LR508")
    )


@seed("LR203")
def the_rate_of_sgd_for_adamw(sound: Sound) -> Fault:
    return Fault(sound.model, sound.adamw(lr=0.1), groups=[(0, 0), (0, 1)], also=("LR206", "LR312"))


@seed("LR203")
def the_rate_of_adamw_for_sgd(sound: Sound) -> Fault:
    return Fault(sound.model, SGD(sound.groups(), lr=1e-5, momentum=0.9), groups=[(0, 0), (0, 1), (0, 2)])


@seed("LR204")
def a_group_is_left_at_zero(sound: Sound) -> Fault:
    sound.options[1]["lr"] = 0.0
    return Fault(sound.model, sound.adamw(), groups=[(0, 1)])


@seed("LR206")
def steps_as_large_as_the_weights(sound: Sound) -> Fault:
    # AdamW moves every element by the rate; the models start at a standard deviation of 0.02 or above.
    also = ("LR203", "LR312")
    return Fault(sound.model, sound.adamw(lr=0.3), groups=[(0, 0), (0, 1), (0, 2)], also=also)


@seed("LR208", only=("bert", "vit", "resnet", "convnext", "swin"))
def head_and_backbone_are_swapped(sound: Sound) -> Fault:
    head = [n for n, _ in sound.named if n.startswith("classifier")]
    body = [n for n, _ in sound.named if n not in head]
    sound.lists, sound.options = [body, head], [{"lr": 1e-3}, {"lr": 1e-5}]
    return Fault(sound.model, sound.adamw(weight_decay=0.0), groups=[(0, 0)])


@seed("LR209", only=LADDERS)
def the_ladder_stands_upside_down(sound: Sound) -> Fault:
    groups = layerwise(sound.model)
    rates = sorted({group["lr"] for group in groups})
    upside_down = dict(zip(rates, reversed(rates), strict=True))
    for group in groups:
        group["lr"] = upside_down[group["lr"]]
    return Fault(sound.model, AdamW(groups), says="the ladder stands upside down", also=("LR208",))


@seed("LR210", only=LADDERS)
def the_ladder_is_stored_and_never_applied(sound: Sound) -> Fault:
    groups = layerwise(sound.model)
    for group in groups:
        group["lr_scale"] = group.pop("lr") / LR
    optimizer = AdamW(groups, lr=LR)
    every = [(0, number) for number in range(len(groups))]
    return Fault(
        sound.model, optimizer, CosineAnnealingLR(optimizer, 1_000), groups=every, declared={"total_steps": 1_000}
    )


class Prodigy(AdamW):
    """Stands for the published class by its name: it estimates the rate, and `lr` is a factor on it."""


@seed("LR207")
def the_rate_of_adamw_for_prodigy(sound: Sound) -> Fault:
    return Fault(sound.model, Prodigy(sound.groups(), lr=LR), groups=[(0, 0), (0, 1), (0, 2)])
