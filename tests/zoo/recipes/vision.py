"""Image classification and its fine-tuning, self-supervised learning.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from zoo import models, nets
from zoo.groupings import by_ndim, decay_by

Target = dict[str, Any]


class LARS(Optimizer):
    """SGD with a trust ratio per tensor, as published with Barlow Twins; only its options matter here."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, eta: float = 0.001,
                 weight_decay_filter: bool = False, lars_adaptation_filter: bool = False) -> None:  # fmt: skip
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta,
            "weight_decay_filter": weight_decay_filter, "lars_adaptation_filter": lars_adaptation_filter,
        })  # fmt: skip

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = parameter.grad
                    if not (group["weight_decay_filter"] and parameter.ndim == 1):
                        update = update.add(parameter, alpha=group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"])


def _cosine(optimizer: Optimizer, warmup: int, total: int) -> SequentialLR:
    warm = LinearLR(optimizer, 0.01, total_iters=warmup)
    return SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, total - warmup)], [warmup])


def _layer_decay(model: nets.ViT, lr: float, decay: float, folded: bool, weight_decay: float = 0.05) -> list[dict]:
    """MAE's `param_groups_lrd`; `folded`: rates already carry the scale, as SimMIM and mmpretrain write them."""
    depth, skip = len(model.blocks), model.no_weight_decay()
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        stem = name.startswith(("cls_token", "pos_embed", "patch_embed"))
        layer = 0 if stem else int(name.split(".")[1]) + 1 if name.startswith("blocks") else depth + 1
        exempt = parameter.ndim == 1 or name in skip
        scale = decay ** (depth + 1 - layer)
        group = {"params": [], "lr_scale": scale, "weight_decay": 0.0 if exempt else weight_decay}
        if folded:
            group["lr"] = lr * scale
        groups.setdefault(f"layer_{layer}_{exempt}", group)["params"].append(parameter)
    return list(groups.values())


def torchvision_resnet50() -> Target:
    """torchvision ResNet-50: SGD .1, momentum .9, decay 1e-4 on everything, steps every 30 epochs."""
    model = nets.ResNet()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return {"model": model, "optimizer": optimizer, "scheduler": StepLR(optimizer, 30), "total_steps": 90,
            "example_inputs": nets.image()}  # fmt: skip


def torchvision_resnet50_v2() -> Target:
    """torchvision's newer recipe: SGD .5, norms exempt, biases decay, cosine after five epochs."""
    model = nets.ResNet()
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    groups = decay_by(model, lambda _, p: id(p) not in norms, 2e-5)
    optimizer = SGD(groups, lr=0.5, momentum=0.9, nesterov=False)
    return {"model": model, "optimizer": optimizer, "scheduler": _cosine(optimizer, 5, 600), "total_steps": 600}


def torchvision_vit() -> Target:
    """torchvision ViT-B/16: AdamW 3e-3 with decay .3 on everything, cosine after a warm-up of 30 epochs."""
    model = models.build("vit")
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.3)
    return {"model": model, "optimizer": optimizer, "scheduler": _cosine(optimizer, 30, 300), "total_steps": 300}


def torchvision_swin() -> Target:
    """torchvision Swin-T: norms, biases and relative position tables exempt by key."""
    model = models.build("swin")
    keys = ("norm", "bias", "relative_position_bias_table", "class_token")
    optimizer = AdamW(decay_by(model, lambda n, _: not any(key in n for key in keys), 0.05), lr=1e-3)
    return {"model": model, "optimizer": optimizer, "scheduler": _cosine(optimizer, 20, 300), "total_steps": 300}


def deit() -> Target:
    """DeiT: AdamW 5e-4 · batch / 512, decay .05, declared tokens exempt."""
    model = nets.ViT()
    skip = model.no_weight_decay()
    groups = decay_by(model, lambda n, p: p.ndim > 1 and n not in skip, 0.05)
    optimizer = AdamW(groups, lr=1e-3, eps=1e-8)
    return {"model": model, "optimizer": optimizer, "scheduler": _cosine(optimizer, 5, 300), "total_steps": 300,
            "example_inputs": nets.image()}  # fmt: skip


def convnext_pretrain() -> Target:
    """ConvNeXt: AdamW 4e-3, `lr_scale` 1 in every group, layer scales exempt with the vectors."""
    model = models.build("convnext")
    groups = [{**group, "lr_scale": 1.0} for group in by_ndim(model)]
    return {"model": model, "optimizer": AdamW(groups, lr=4e-3)}


def convnext_finetune() -> Target:
    """ConvNeXt 22k to 1k: `lr_scale` down to .7^13 that the loop applies, decay 1e-8."""
    model = nets.ViT(layers=12)
    return {"model": model, "optimizer": AdamW(_layer_decay(model, 5e-5, 0.7, False, 1e-8), lr=5e-5)}


def mae_pretrain() -> Target:
    """MAE: β2 .95, decay by number of dimensions without the model's skip list, so that tokens decay."""
    model = nets.ViT(declares=False)
    return {"model": model, "optimizer": AdamW(by_ndim(model), lr=2.4e-3, betas=(0.9, 0.95))}


def mae_finetune_base() -> Target:
    """MAE fine-tuning of ViT-B: .65^13, 270 times, in `lr_scale`; the loop writes the rates every iteration."""
    model = nets.ViT(layers=12)
    return {"model": model, "optimizer": AdamW(_layer_decay(model, 1e-3, 0.65, False), lr=1e-3)}


def mae_finetune_huge() -> Target:
    """MAE fine-tuning of ViT-H: .75^33, 13 273 times."""
    model = nets.ViT(layers=32)
    return {"model": model, "optimizer": AdamW(_layer_decay(model, 1e-3, 0.75, False), lr=1e-3)}


def simmim_finetune() -> Target:
    """SimMIM: the same ladder with the scale already folded into the rates, under a cosine."""
    model = nets.ViT(layers=24)
    optimizer = AdamW(_layer_decay(model, 5e-4, 0.75, True), lr=5e-4)
    return {"model": model, "optimizer": optimizer, "scheduler": CosineAnnealingLR(optimizer, 100), "total_steps": 100}


def mmpretrain_vit() -> Target:
    """mmpretrain: one group per parameter, `decay_mult` left in it; only tokens and positions are exempt."""
    model = nets.ViT()
    groups = [
        {"params": [p], "weight_decay": 0.0 if n in ("cls_token", "pos_embed") else 0.3, "decay_mult": 1.0}
        for n, p in model.named_parameters()
    ]
    return {"model": model, "optimizer": AdamW(groups, lr=3e-3)}


def mae_linear_probe() -> Target:
    """MAE linear probing: LARS 6.4 on a head behind a batch norm without affine parameters."""
    model = nets.ViT()
    model.head = nn.Sequential(nn.BatchNorm1d(32, affine=False, eps=1e-6), nn.Linear(32, 10))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    return {"model": model, "optimizer": LARS(model.head.parameters(), lr=6.4), "example_inputs": nets.image()}


def dino() -> Target:
    """DINO: rates and decay are written by the loop each step; the teacher has gradients off and no optimizer."""
    student, teacher = nets.ViT(declares=False), nets.ViT(declares=False).requires_grad_(False)
    regular = [p for p in student.parameters() if p.ndim > 1]
    vectors = [p for p in student.parameters() if p.ndim == 1]
    optimizer = AdamW([{"params": regular}, {"params": vectors, "weight_decay": 0.0}])
    return {"models": {"student": student, "teacher": teacher}, "optimizer": optimizer, "clip_norm": 3.0}


def dino_sgd() -> Target:
    """DINO with SGD: rate 0 at construction, the loop writes it."""
    student = nets.ResNet()
    return {"model": student, "optimizer": SGD(_dino_groups(student), lr=0, momentum=0.9)}


def _dino_groups(model: nn.Module) -> list[dict[str, Any]]:
    """DINO's `get_params_groups`: the first group keeps the optimizer's own decay."""
    vectors = {id(p) for n, p in model.named_parameters() if n.endswith(".bias") or p.ndim == 1}
    return [
        {"params": [p for p in model.parameters() if id(p) not in vectors]},
        {"params": [p for p in model.parameters() if id(p) in vectors], "weight_decay": 0.0},
    ]


def ijepa() -> Target:
    """I-JEPA: four groups from generators with `WD_exclude`, a frozen position table inside, target encoder outside."""
    encoder, predictor = nets.ViT(declares=False), nets.ViT(declares=False)
    target_encoder = nets.ViT(declares=False).requires_grad_(False)
    for part in (encoder, predictor):
        part.pos_embed.requires_grad_(False)
    groups: list[dict[str, Any]] = [
        {"params": (p for n, p in part.named_parameters() if "bias" not in n and p.ndim != 1)}
        for part in (encoder, predictor)
    ]
    groups += [
        {"params": (p for n, p in part.named_parameters() if "bias" in n or p.ndim == 1), "WD_exclude": True,
         "weight_decay": 0}
        for part in (encoder, predictor)
    ]  # fmt: skip
    named = {"encoder": encoder, "predictor": predictor, "target_encoder": target_encoder}
    return {"models": named, "optimizer": AdamW(groups)}


def moco() -> Target:
    """MoCo v2: the momentum encoder is frozen and inside the optimizer, which was given `model.parameters()`."""
    model = nn.ModuleDict({"encoder_q": nets.ResNet(), "encoder_k": nets.ResNet().requires_grad_(False)})
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)}


def moco_v3_vit() -> Target:
    """MoCo v3: AdamW 2.4e-3 with decay .1 on everything, 40 epochs of warm-up."""
    model = nets.ViT(declares=False)
    optimizer = AdamW(model.parameters(), lr=2.4e-3, weight_decay=0.1)
    return {"model": model, "optimizer": optimizer, "scheduler": _cosine(optimizer, 40, 300), "total_steps": 300}


def barlow_twins() -> Target:
    """Barlow Twins: LARS at rate 0, filters in place of no-decay groups; the loop sets .2 and .0048 by index."""
    model = nn.Sequential(nets.ResNet(32), nets.mlp(32, 64, 64))
    weights = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights}, {"params": vectors}]
    return {"model": model, "optimizer": LARS(groups, lr=0, weight_decay=1e-6, weight_decay_filter=True,
                                              lars_adaptation_filter=True)}  # fmt: skip


def vicreg_semi_supervised() -> Target:
    """VICReg: `SGD(groups, 0)`, head at .08 and backbone at .01."""
    model = nets.ResNet()
    backbone = [p for n, p in model.named_parameters() if not n.startswith("fc")]
    groups = [{"params": model.fc.parameters(), "lr": 0.08}, {"params": backbone, "lr": 0.01}]
    optimizer = SGD(groups, 0, momentum=0.9, weight_decay=0)
    return {"model": model, "optimizer": optimizer, "scheduler": CosineAnnealingLR(optimizer, 20), "total_steps": 20}


def simclr_lightly() -> Target:
    """lightly SimCLR: LARS, norms and biases exempt, an online head without decay as a group of its own."""
    model = nn.ModuleDict({"backbone": nets.ResNet(32), "projection": nets.mlp(32, 32, 32), "online": nn.Linear(32, 9)})
    trained = nn.ModuleList([model["backbone"], model["projection"]])
    decayed, exempt = decay_by(trained, lambda n, p: p.ndim > 1, 1e-6)
    groups = [{"name": "simclr", **decayed}, {"name": "simclr_no_weight_decay", **exempt},
              {"name": "online_classifier", "params": model["online"].parameters(), "weight_decay": 0.0}]  # fmt: skip
    optimizer = LARS(groups, lr=0.3)
    return {"model": model, "optimizer": optimizer, "scheduler": _cosine(optimizer, 10, 100), "total_steps": 100}


def airbench() -> Target:
    """airbench: SGD with batch norm scales frozen at 1 and biases 64 times faster, decay tied to the rate."""
    model = nets.ResNet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad_(False)
    lr, decay = 11.5 / 1024, 0.0153 * 1024 / 11.5
    biases = [p for n, p in model.named_parameters() if "bn" in n and p.requires_grad]
    others = [p for n, p in model.named_parameters() if "bn" not in n and p.requires_grad]
    groups = [{"params": biases, "lr": lr * 64, "weight_decay": decay / 64}, {"params": others, "lr": lr,
              "weight_decay": decay}]  # fmt: skip
    return {"model": model, "optimizer": SGD(groups, momentum=0.85, nesterov=True)}


def super_convergence() -> Target:
    """fast.ai style training of a ResNet: one-cycle to .4 under SGD, momentum cycled against it."""
    model = nets.ResNet()
    optimizer = SGD(model.parameters(), lr=0.4, momentum=0.9, weight_decay=5e-4)
    scheduler = OneCycleLR(optimizer, 0.4, total_steps=2_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 2_000}


def wide_resnet() -> Target:
    """Wide ResNet: SGD .1 with Nesterov momentum, decay 5e-4 on everything, three steps of .2."""
    model = nets.ResNet()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = MultiStepLR(optimizer, [60, 120, 160], 0.2)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}


def cosine_by_hand() -> Target:
    """A warm-up and cosine in one function, the first step at rate 0, as many scripts write it."""
    model = nets.ViT()
    skip = model.no_weight_decay()
    optimizer = AdamW(decay_by(model, lambda n, p: p.ndim > 1 and n not in skip, 0.05), lr=1e-3)
    scheduler = LambdaLR(optimizer, lambda e: e / 10 if e < 10 else 0.5 * (1 + math.cos(math.pi * (e - 10) / 290)))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 300}
