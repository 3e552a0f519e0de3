"""Weight decay on what it is not meant for, or not where it is meant."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.faults import Net, Setup, matrices_and_rest, pair


def shrunk(part: str) -> Callable[[Setup], float]:
    """1 / the mean size of the parameters whose names hold the text."""

    def harm(made: Setup) -> float:
        sizes = [float(p.detach().abs().mean()) for n, p in made["model"].named_parameters() if part in n]
        return len(sizes) / (sum(sizes) + 1e-9)

    return harm


class Spelled(Net):
    """Its last norm is called otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_f = nn.LayerNorm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.ln_f(self.stem(x)))


@pair(
    "decay",
    "https://github.com/huggingface/transformers/issues/42754",
    "2025",
    "LR301",
    names="ln_f",
    harm=shrunk("ln_f.weight"),
)
def norm_spelled_otherwise(fault: bool) -> Setup:
    """A no-decay list by name knows `norm` and not `ln_f`."""
    model = Spelled()
    known = ("bias", "norm") if fault else ("bias", "norm", "ln_f")
    decayed = [p for n, p in model.named_parameters() if not any(k in n for k in known)]
    spared = [p for n, p in model.named_parameters() if any(k in n for k in known)]
    groups = [{"params": decayed, "weight_decay": 2.0}, {"params": spared, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3)}


@pair("decay", "https://github.com/ArrowLuo/CLIP4Clip/issues/11", "2021", "LR305", harm=shrunk("norm.weight"))
def lists_swapped(fault: bool) -> Setup:
    """The decay and no-decay lists are handed to the wrong groups."""
    model = Net()
    first, second = matrices_and_rest(model)
    decayed, spared = (second, first) if fault else (first, second)
    groups = [{"params": decayed, "weight_decay": 2.0}, {"params": spared, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3)}


@pair(
    "decay",
    "https://github.com/huggingface/pytorch-image-models/issues/857",
    "2021",
    "LR305",
    "LR301",
    names="blocks",
    harm=shrunk("0.norm.weight"),
)
def one_layer_swapped(fault: bool) -> Setup:
    """In one layer of a ladder of rates the two groups are swapped."""
    model = Net(blocks=6)
    groups = []
    for part, lr in ((model.stem, 1e-3 * 0.8**7), (model.head, 1e-3)):
        decayed, spared = matrices_and_rest(part)
        groups += [{"params": decayed, "lr": lr}, {"params": spared, "lr": lr, "weight_decay": 0.0}]
    for i, block in enumerate(model.blocks):
        decayed, spared = matrices_and_rest(block)
        if fault and i == 0:
            decayed, spared = spared, decayed
        lr = 1e-3 * 0.8 ** (6 - i)
        groups += [{"params": decayed, "lr": lr}, {"params": spared, "lr": lr, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3, weight_decay=8.0)}


@pair("decay", "https://github.com/NVIDIA/apex/issues/1849", "2024", "LR312", steps=300)
def decay_without_the_rate(fault: bool) -> Setup:
    """A decay of a framework that does not multiply it by the rate, in one that does."""
    model = Net()
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-3, weight_decay=30.0 if fault else 0.03)}


@pair("decay", "https://github.com/kuangliu/pytorch-cifar/issues/86", "2019", "LR312")
def sgd_decay_mistyped(fault: bool) -> Setup:
    """5 for 5e-4: with momentum the weights shrink by more than a tenth per step."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.024, momentum=0.9, weight_decay=5.0 if fault else 5e-4)
    return {"model": model, "optimizer": optimizer}


@pair("decay", "https://github.com/egg-west/AdamW-pytorch/issues/1", "2019", "LR310", steps=400)
def l2_through_adam(fault: bool) -> Setup:
    """A decay that was tuned for AdamW, in Adam: L2 that the normalisation rescales."""
    model = Net()
    kind = Adam if fault else AdamW
    return {"model": model, "optimizer": kind(model.parameters(), lr=3e-3, weight_decay=0.3 if fault else 0.1)}


@pair(
    "decay",
    "https://github.com/axolotl-ai-cloud/axolotl/issues/4010",
    "2026",
    "LR311",
    harm=lambda made: sum(float(p.detach().square().sum()) for p in made["model"].parameters()),
    factor=1.05,
    steps=400,
)
def configured_decay_lost(fault: bool) -> Setup:
    """A decay is configured, and a builder writes 0 into every group."""
    model = Net()
    groups = [{"params": list(model.parameters()), **({"weight_decay": 0.0} if fault else {})}]
    return {"model": model, "optimizer": AdamW(groups, lr=3e-3, weight_decay=0.5)}


@pair(
    "decay",
    "https://github.com/huggingface/pytorch-image-models/pull/2713",
    "2026",
    "LR309",
    "LR306",
    names="reg_token",
    harm=shrunk("reg_token"),
)
def register_token_decayed(fault: bool) -> Setup:
    """The author's list spares `cls_token` and `pos_embed`, and forgets `reg_token`."""

    class Tokens(Net):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.randn(1, 1, 32))
            self.reg_token = nn.Parameter(torch.randn(1, 4, 32))
            self.pos_embed = nn.Parameter(torch.randn(1, 5, 32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            extra = torch.cat([self.cls_token, self.reg_token], 1) + self.pos_embed
            return self.head(self.stem(x) + 0.0 * extra.sum(1))

    model = Tokens()
    spared_names = {"cls_token", "pos_embed", *(() if fault else ("reg_token",))}
    spared = [p for n, p in model.named_parameters() if p.ndim < 2 or n in spared_names]
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2 and n not in spared_names]
    groups = [{"params": decayed, "weight_decay": 2.0}, {"params": spared, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3)}


@pair(
    "decay",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html",
    "2026",
    "LR303",
    names="bias_ih",
    harm=shrunk("rnn.bias"),
)
def recurrent_bias_missed(fault: bool) -> Setup:
    """`endswith(".bias")` does not know `bias_ih_l0`."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.rnn, self.head = nn.Linear(16, 16), nn.GRU(16, 16), nn.Linear(16, 4)
            self.mid = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.mid(self.rnn(self.stem(x)[None])[0][0]))

    model = Recurrent()
    spared = [p for n, p in model.named_parameters() if (n.endswith(".bias") if fault else p.ndim < 2)]
    ids = {id(p) for p in spared}
    decayed = [p for p in model.parameters() if id(p) not in ids]
    groups = [{"params": decayed, "weight_decay": 2.0}, {"params": spared, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3)}
