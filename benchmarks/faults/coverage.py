"""What never reaches the optimizer, or reaches it twice."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.faults import Net, Setup, pair


def moved(part: str, still: bool = True) -> Callable[[Setup], float]:
    """The reciprocal of a part's movement where it should move, its movement where it should not."""

    def harm(made: Setup) -> float:
        now, start = made["inner"], made["start"]
        change = sum(float((p.detach() - q).abs().sum()) for (n, p), q in zip(now, start, strict=True) if part in n)
        return 1 / (change + 1e-3) if still else change

    return harm


def watched(made: Setup, module: nn.Module) -> Setup:
    """The setup with the module's parameters and their values before training, for `moved`."""
    made["inner"] = list(module.named_parameters())
    made["start"] = [p.detach().clone() for _, p in made["inner"]]
    return made


@pair(
    "coverage",
    "https://github.com/huggingface/pytorch-openai-transformer-lm/pull/6",
    "2018",
    "LR101",
    names="head",
    harm=moved(""),
)
def head_forgotten(fault: bool) -> Setup:
    """The optimizer is built from the body alone; the new head keeps its initial values."""
    model = Net()
    trained = [*model.stem.parameters(), *model.blocks.parameters()] if fault else list(model.parameters())
    return watched({"model": model, "optimizer": AdamW(trained, lr=3e-3)}, model.head)


@pair("coverage", "https://github.com/zjunlp/HVPNeT/issues/5", "2022", "LR101", names="norm", harm=moved("norm"))
def group_never_appended(fault: bool) -> Setup:
    """A group for the norms is built and not appended to the list of groups."""
    model = Net()
    groups = [{"params": [p for n, p in model.named_parameters() if "norm" not in n]}]
    group = {"params": [p for n, p in model.named_parameters() if "norm" in n], "lr": 1e-2}
    if not fault:
        groups.append(group)
    return watched({"model": model, "optimizer": AdamW(groups, lr=3e-3)}, model)


@pair(
    "coverage",
    "https://github.com/bubbliiiing/efficientdet-pytorch/issues/37",
    "2021",
    "LR101",
    names="mix",
    harm=moved("mix"),
)
def free_standing_weights(fault: bool) -> Setup:
    """Groups made from each module's weight and bias leave out parameters that are called otherwise."""

    class Fused(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.zeros(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.stem(x) + self.mix)

    model = Fused()
    own = [p for m in model.modules() for n, p in m.named_parameters(recurse=False) if n in ("weight", "bias")]
    return watched({"model": model, "optimizer": Adam(own if fault else model.parameters(), lr=3e-3)}, model)


@pair("coverage", "https://github.com/KaiyangZhou/pytorch-center-loss/issues/22", "2019", "LR107", names="centers")
def loss_with_parameters(fault: bool) -> Setup:
    """The centres of a loss module are in no optimizer."""

    class CenterLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centers = nn.Parameter(torch.randn(8, 4))

        def forward(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(out, y) + torch.cdist(out, self.centers).min(1).values.mean()

    model, loss_fn = Net(), CenterLoss()
    parameters = [*model.parameters(), *([] if fault else loss_fn.parameters())]
    return {"model": model, "optimizer": SGD(parameters, lr=0.05, momentum=0.9), "loss_fn": loss_fn}


@pair("coverage", "https://github.com/pytorch/pytorch/issues/1053", "2017", "LR105", names="layers")
def layers_in_a_list(fault: bool) -> Setup:
    """Layers in a plain list are no submodules: no optimizer sees them."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(16, 32), nn.Linear(32, 32)]
            self.layers = layers if fault else nn.ModuleList(layers)
            self.head = nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x).tanh()
            return self.head(x)

    model = Listed()
    return {"model": model, "optimizer": Adam(model.parameters(), lr=3e-3)}


@pair(
    "coverage",
    "https://github.com/pytorch/pytorch/issues/9303",
    "2018",
    "LR106",
    names="scale",
    harm=moved("scale"),
)
def parameter_times_a_number(fault: bool) -> Setup:
    """`nn.Parameter(x) * 2` is the result of an operation: registered nowhere."""

    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(4)) * 2.0 if fault else nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.scale.detach() if fault else super().forward(x) + self.scale

    model = Scaled()
    made = {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-3)}
    made["inner"] = [("scale", model.scale)]
    made["start"] = [model.scale.detach().clone()]
    return made


@pair(
    "coverage",
    "https://github.com/huggingface/lerobot/pull/280",
    "2024",
    "LR705",
    "LR108",
    names="backbone",
    harm=moved("backbone", still=False),
)
def pattern_without_the_prefix(fault: bool) -> Setup:
    """`startswith("backbone")` on a model that holds the network as `model.backbone`: the slow group is empty."""

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.ModuleDict({"backbone": nn.Linear(16, 32), "head": nn.Linear(32, 4)})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model["head"](self.model["backbone"](x).tanh())

    model = Policy()
    lead = "backbone" if fault else "model.backbone"
    slow = [p for n, p in model.named_parameters() if n.startswith(lead)]
    ids = {id(p) for p in slow}
    rest = [p for p in model.parameters() if id(p) not in ids]
    groups = [{"params": rest}, {"params": slow, "lr": 1e-6}]
    return watched({"model": model, "optimizer": AdamW(groups, lr=1e-3)}, model)


@pair(
    "coverage", "https://github.com/huggingface/transformers/issues/1448", "2019", "LR102", names="head", harm=moved("")
)
def head_replaced_afterwards(fault: bool) -> Setup:
    """The head is replaced after the optimizer was built: the optimizer holds the old one."""
    model = Net()
    if not fault:
        model.head = nn.Linear(32, 4)
    optimizer = AdamW(model.parameters(), lr=3e-3)
    if fault:
        model.head = nn.Linear(32, 4)
    return watched({"model": model, "optimizer": optimizer}, model.head)


@pair(
    "coverage",
    "https://github.com/adapter-hub/adapters/issues/260",
    "2021",
    "LR101",
    "LR102",
    names="adapter",
    harm=moved(""),
)
def adapter_added_afterwards(fault: bool) -> Setup:
    """Parameters were collected before the adapter was added."""

    class Adapted(Net):
        def __init__(self) -> None:
            super().__init__()
            self.adapter = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.adapter(self.stem(x)))

    model = Adapted()
    early = list(model.parameters())
    model.adapter = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 32))
    return watched({"model": model, "optimizer": AdamW(early if fault else model.parameters(), lr=3e-3)}, model.adapter)


@pair("coverage", "https://github.com/PixArt-alpha/PixArt-alpha/pull/160", "2025", "LR108", "LR702", harm=moved(""))
def generator_used_twice(fault: bool) -> Setup:
    """A generator serves two groups: the second gets nothing."""
    model = Net()
    tail = model.head.parameters() if fault else list(model.head.parameters())
    count = sum(p.numel() for p in tail)
    body = [*model.stem.parameters(), *model.blocks.parameters()]
    groups = [{"params": body}, {"params": tail, "lr": 1e-3 * (count > 0) + 1e-2}]
    return watched({"model": model, "optimizer": AdamW(groups, lr=1e-3)}, model.head)


@pair("coverage", "https://github.com/wiseodd/controlled-text-generation/issues/15", "2018", "LR104", names="head")
def head_in_two_optimizers(fault: bool) -> Setup:
    """A second optimizer for the head, and the first still holds it: every step is taken twice."""
    model = Net()
    body = list(itertools.chain(model.stem.parameters(), model.blocks.parameters()))
    first = SGD(model.parameters() if fault else body, lr=0.3)
    return {"model": model, "optimizer": [first, SGD(model.head.parameters(), lr=1.5)]}


@pair("coverage", "https://github.com/facebookresearch/detectron2/issues/5122", "2023", "LR103")
def duplicate_in_a_group(fault: bool) -> Setup:
    """A tied weight is listed twice in one group: torch warns, and updates it twice."""
    model = Net()
    extra = [model.head.weight] if fault else []
    return {"model": model, "optimizer": SGD([*model.parameters(), *extra], lr=1.2)}


@pair("coverage", "https://github.com/open-mmlab/mmpretrain/issues/1104", "2022", "LR122", names="stem")
def train_undoes_the_freeze(fault: bool) -> Setup:
    """`train()` makes everything trainable again; the optimizer was built without the frozen part."""

    class Staged(Net):
        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            if fault:
                self.requires_grad_(True)
            return self

    model = Staged()
    model.stem.requires_grad_(False)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    return {"model": model, "optimizer": optimizer, "frozen": model.stem}


@pair("coverage", "https://github.com/lucidrains/byol-pytorch/issues/4", "2020", "LR502", "LR109", names="teacher")
def teacher_in_the_optimizer(fault: bool) -> Setup:
    """The teacher's output is detached, and weight decay shrinks the teacher all the same."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = Net()
            self.teacher = copy.deepcopy(self.student)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.student(x) + 0.0 * self.teacher(x).detach()

    model = Pair()
    held = model.parameters() if fault else model.student.parameters()
    made = {"model": model, "optimizer": SGD(held, lr=0.1, weight_decay=0.05)}
    return {**made, "example_inputs": (torch.randn(2, 16),)}


@pair("coverage", "https://github.com/microsoft/dp-transformers/issues/43", "2023", "LR405", "LR121")
def wrapper_with_copied_groups(fault: bool) -> Setup:
    """The scheduler writes to groups that are copies of those that step."""

    class Noisy(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner, self.defaults, self.state = inner, inner.defaults, inner.state
            self.param_groups = [dict(g) for g in inner.param_groups] if fault else inner.param_groups

        def step(self, closure: object = None) -> object:
            return self.inner.step(closure)

    model = Net()
    optimizer = Noisy(SGD(model.parameters(), lr=0.5, momentum=0.95))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: max(0.0, 1 - t / 200))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}
