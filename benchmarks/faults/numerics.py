"""Numbers that an optimizer cannot work with."""

from __future__ import annotations

from torch.optim import SGD, Adam, AdamW

from benchmarks.faults import Net, Setup, pair


@pair(
    "numerics",
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html",
    "2026",
    "LR606",
    names="eps",
    steps=60,
)
def decay_in_the_place_of_eps(fault: bool) -> Setup:
    """Positional arguments: 1.0 stands where eps is."""
    model = Net()
    betas = (0.9, 0.999)
    optimizer = Adam(model.parameters(), 3e-3, betas, 1.0) if fault else Adam(model.parameters(), 3e-3, betas)
    return {"model": model, "optimizer": optimizer}


@pair("numerics", "https://github.com/pytorch/pytorch/issues/3653", "2026", "LR602", names="group", steps=60)
def misspelled_group_key(fault: bool) -> Setup:
    """`learning_rate` in a group is no option: the group keeps the default rate."""
    model = Net()
    body = [*model.stem.parameters(), *model.blocks.parameters()]
    key = "learning_rate" if fault else "lr"
    groups = [{"params": body}, {"params": list(model.head.parameters()), key: 3e-2}]
    return {"model": model, "optimizer": SGD(groups, lr=3e-4, momentum=0.9)}


@pair(
    "numerics",
    "https://arxiv.org/abs/2010.06192",
    "2020",
    "LR604",
    names="%",
    harm=lambda made: (
        1
        / (
            sum(
                float((p.detach().float() - q).abs().sum())
                for p, q in zip(made["model"].blocks.parameters(), made["start"], strict=True)
            )
            + 1e-6
        )
    ),
)
def bfloat16_steps_vanish(fault: bool) -> Setup:
    """Pure bfloat16 weights at 1e-6: steps are below their precision."""
    model = Net()
    model = model.bfloat16() if fault else model
    start = [p.detach().float().clone() for p in model.blocks.parameters()]
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=1e-6, weight_decay=0.0), "start": start}


@pair(
    "numerics",
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html",
    "2026",
    "LR601",
    harm=lambda made: made["loss"],
    steps=60,
)
def negative_rate_in_a_group(fault: bool) -> Setup:
    """A group's rate is not validated: -0.05 climbs the loss."""
    model = Net()
    body = [*model.stem.parameters(), *model.blocks.parameters()]
    groups = [{"params": body}, {"params": list(model.head.parameters()), "lr": -0.05 if fault else 0.05}]
    return {"model": model, "optimizer": SGD(groups, lr=0.05)}


@pair(
    "numerics",
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html",
    "2026",
    "LR607",
)
def betas_swapped(fault: bool) -> Setup:
    """(0.999, 0.9): the mean over a thousand gradients, divided by the size of the last ten."""
    model = Net()
    betas = (0.999, 0.9) if fault else (0.9, 0.999)
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-3, betas=betas)}
