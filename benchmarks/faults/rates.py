"""Rates that do not fit their optimizer, or each other."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from benchmarks.faults import Net, Setup, pair


def unmoved(made: Setup) -> float:
    """The reciprocal of how far the watched tensor moved."""
    return 1 / (float((made["inner"].detach() - made["start"]).norm()) + 1e-6)


def drifted(made: Setup) -> float:
    """How far the watched tensors moved."""
    inner = made["inner"]
    now = [inner] if isinstance(inner, torch.Tensor) else list(inner.parameters())
    start = made["start"] if isinstance(made["start"], list) else [made["start"]]
    return sum(float((p.detach() - q).norm()) for p, q in zip(now, start, strict=True))


@pair("rates", "https://github.com/rajveermalviya/language-modeling/issues/3", "2023", "LR203")
def adam_at_one(fault: bool) -> Setup:
    """Adam at 1.0, from a configuration for another optimizer."""
    model = Net()
    return {"model": model, "optimizer": Adam(model.parameters(), lr=1.0 if fault else 3e-3)}


@pair("rates", "https://github.com/pytorch/examples/tree/main/word_language_model", "2024", "LR203", "LR312")
def adamw_inherits_the_rate_of_sgd(fault: bool) -> Setup:
    """The example's rate of 20 belongs to SGD with clipping; AdamW takes it too."""
    model = Net()
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=20.0 if fault else 3e-3)}


@pair("rates", "https://github.com/jfzhang95/pytorch-deeplab-xception/issues/9", "2019", "LR203")
def sgd_at_a_rate_of_adam(fault: bool) -> Setup:
    """1e-5 in SGD: weights hardly move."""
    model = Net()
    return {"model": model, "optimizer": SGD(model.parameters(), lr=1e-5 if fault else 0.1, momentum=0.9)}


@pair("rates", "https://github.com/PeizeSun/OneNet/issues/18", "2021", "LR203")
def rmsprop_at_a_rate_of_sgd(fault: bool) -> Setup:
    """RMSprop at 0.1 on a network: every element moves by 0.1."""
    model = Net()
    return {"model": model, "optimizer": RMSprop(model.parameters(), lr=0.1 if fault else 1e-3)}


@pair(
    "rates",
    "https://github.com/guillaumegenthial/sequence_tagging/issues/47",
    "2018",
    "LR201",
    "LR202",
    names="head",
    harm=unmoved,
)
def slip_of_the_exponent(fault: bool) -> Setup:
    """1e-8 for 1e-3 in the head's group."""
    model = Net()
    body = [*model.stem.parameters(), *model.blocks.parameters()]
    groups = [{"params": body, "lr": 1e-3}, {"params": model.head.parameters(), "lr": 1e-8 if fault else 1e-3}]
    made = {"model": model, "optimizer": AdamW(groups)}
    start = model.head.weight.detach().clone()
    return {**made, "inner": model.head.weight, "start": start}


@pair("rates", "https://github.com/roboflow/rf-detr/issues/255", "2025", "LR208", names="backbone", harm=drifted)
def backbone_above_the_head(fault: bool) -> Setup:
    """Backbone × 10, classifier and auxiliary classifier × 1: swapped."""

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Net()
            self.classifier, self.aux_classifier = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.backbone(x)
            return self.classifier(features) + 0.0 * self.aux_classifier(features)

    model = Segmenter()
    heads = [*model.classifier.parameters(), *model.aux_classifier.parameters()]
    slow, fast = (heads, model.backbone.parameters()) if fault else (model.backbone.parameters(), heads)
    groups = [{"params": slow, "lr": 0.05}, {"params": fast, "lr": 0.5}]
    start = [p.detach().clone() for p in model.backbone.parameters()]
    return {"model": model, "optimizer": SGD(groups, momentum=0.9), "inner": model.backbone, "start": start}


@pair("rates", "https://github.com/konstmish/prodigy/issues/2", "2023", "LR207")
def multiplier_as_a_rate(fault: bool) -> Setup:
    """Prodigy estimates the rate and multiplies it by lr, which belongs at 1."""

    class Prodigy(AdamW):
        """Prodigy's role of lr, with an estimate that has settled at 3e-3."""

        def step(self, closure: object = None) -> None:
            for group in self.param_groups:
                group["lr"] *= 3e-3
            super().step()
            for group in self.param_groups:
                group["lr"] /= 3e-3

    model = Net()
    return {"model": model, "optimizer": Prodigy(model.parameters(), lr=1e-3 if fault else 1.0)}


@pair("rates", "https://github.com/ultralytics/ultralytics/issues/25447", "2026", "LR119", names="gamma", harm=drifted)
def layer_scale_in_muon(fault: bool) -> Setup:
    """Gains of shape (32, 1) among Muon's matrices: each step moves the whole gain by one length."""

    class Muonish(torch.optim.Optimizer):
        def __init__(self, groups: list[dict[str, object]]) -> None:
            super().__init__(groups, {"lr": 0.02, "use_muon": False})

        @torch.no_grad()
        def step(self, closure: object = None) -> None:
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    parts = torch.linalg.svd(p.grad, full_matrices=False) if group["use_muon"] else None
                    p.sub_(group["lr"] * (p.grad if parts is None else parts.U @ parts.Vh))

    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.full((1, 32), 1e-2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.stem(x) * (1 + self.gamma))

    model = Scaled()
    hidden = [block["fc"].weight for block in model.blocks]
    muon = [*hidden, model.stem.weight, *([model.gamma] if fault else [])]
    ids = {id(p) for p in muon}
    groups = [{"params": muon, "use_muon": True}, {"params": [p for p in model.parameters() if id(p) not in ids]}]
    start = model.gamma.detach().clone()
    return {"model": model, "optimizer": Muonish(groups), "inner": model.gamma, "start": start}


@pair("rates", "https://github.com/huggingface/peft/issues/3499", "2026", "LR212", names="items", harm=unmoved)
def lora_b_missed(fault: bool) -> Setup:
    """LoRA+ by name: one B matrix is left at the rate of the A matrices."""

    class Low(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            self.base = nn.Linear(a, b).requires_grad_(False)
            self.lora_A = nn.ModuleDict({"default": nn.Linear(a, 4, bias=False)})
            self.lora_B = nn.ModuleDict({"default": nn.Linear(4, b, bias=False)})
            nn.init.zeros_(self.lora_B["default"].weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.lora_B["default"](self.lora_A["default"](x))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down, self.items = Low(16, 32), Low(32, 32), Low(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.items(self.down(self.up(x).tanh()).tanh())

    model = Model()
    fast = [p for n, p in model.named_parameters() if "lora_B" in n and not (fault and n.startswith("items"))]
    ids = {id(p) for p in fast}
    slow = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
    start = model.items.lora_B["default"].weight.detach().clone()
    made = {"model": model, "optimizer": AdamW([{"params": slow, "lr": 1e-4}, {"params": fast, "lr": 1.6e-3}])}
    return {**made, "inner": model.items.lora_B["default"].weight, "start": start}
