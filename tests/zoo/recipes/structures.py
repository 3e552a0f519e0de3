"""Layers that are called something other than what they are, and setups in which the usual sides are exchanged.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from zoo import models, nets
from zoo.groupings import by_ndim, decay_by

Target = dict[str, Any]
WIDTH = nets.WIDTH


class LayerNormLSTMCell(nn.Module):
    """The layer-normalised cell of PyTorch's custom LSTM benchmark: matrices in a class called a norm."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(0.1 * torch.randn(4 * width, inner))
        self.weight_hh = nn.Parameter(0.1 * torch.randn(4 * width, width))
        self.layernorm_i, self.layernorm_h = nn.LayerNorm(4 * width), nn.LayerNorm(4 * width)
        self.layernorm_c = nn.LayerNorm(width)


class LayerNormLinear(nn.Module):
    """Transformer Engine's fused layer."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.layer_norm_weight = nn.Parameter(torch.ones(inner))
        self.layer_norm_bias = nn.Parameter(torch.zeros(inner))
        self.weight = nn.Parameter(0.02 * torch.randn(outer, inner))
        self.bias = nn.Parameter(torch.zeros(outer))


class LayerNormMLP(nn.Module):
    """Transformer Engine's fused feed-forward block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm_weight = nn.Parameter(torch.ones(width))
        self.layer_norm_bias = nn.Parameter(torch.zeros(width))
        for number, shape in ((1, (4 * width, width)), (2, (width, 4 * width))):
            self.register_parameter(f"fc{number}_weight", nn.Parameter(0.02 * torch.randn(shape)))
            self.register_parameter(f"fc{number}_bias", nn.Parameter(torch.zeros(shape[0])))


class DiagonalNormal(nn.Module):
    """A distribution with trained location and scale, as in libraries of normalizing flows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))


class NormalizingFlow(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.base_loc, self.base_log_scale = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.net = nets.mlp(width, 32, width)


class Adam_mini(Optimizer):
    """Decays as AdamW does, which only its step shows."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            lr = group["lr"]
            for parameter in group["params"]:
                if group["weight_decay"] > 0.0:
                    parameter.mul_(1 - lr * group["weight_decay"])
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=lr)


def layernorm_lstm() -> Target:
    """A language model of layer-normalised LSTM cells: matrices decay, vectors do not."""
    cells = nn.ModuleList([LayerNormLSTMCell(16, 32), LayerNormLSTMCell(32, 32)])
    model = nn.ModuleDict({"embedding": nn.Embedding(64, 16), "cells": cells, "out": nn.Linear(32, 64)})
    return {"model": model, "optimizer": AdamW(by_ndim(model), lr=1e-3)}


def transformer_engine() -> Target:
    """Transformer Engine: norms inside of dense layers, grouped by number of dimensions."""
    layers = [
        nn.ModuleDict(
            {
                "layernorm_qkv": LayerNormLinear(WIDTH, 3 * WIDTH),
                "proj": nn.Linear(WIDTH, WIDTH),
                "layernorm_mlp": LayerNormMLP(WIDTH),
            }
        )
        for _ in range(3)
    ]
    model = nn.ModuleDict({"layers": nn.ModuleList(layers), "final_layernorm": nn.LayerNorm(WIDTH)})
    return {"model": model, "optimizer": AdamW(by_ndim(model), lr=3e-4, betas=(0.9, 0.95))}


def flow_posterior() -> Target:
    """A variational autoencoder with flows: layer norms and biases are exempt by type, distributions decay."""
    encoder = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.Linear(32, 16))
    model = nn.ModuleDict({"encoder": encoder, "prior": DiagonalNormal(8), "flow": NormalizingFlow(8)})
    norms = {id(p) for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    groups = decay_by(model, lambda name, p: id(p) not in norms and not name.endswith("bias"), 0.01)
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3)}


def projector() -> Target:
    """Projection into StyleGAN (rosinality): latent and noise maps train, the generator's gradients stay on."""
    generator = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3))
    latent = torch.zeros(1, 32, requires_grad=True)
    noises: list[Tensor] = [torch.randn(1, 1, 4 * 2**k, 4 * 2**k, requires_grad=True) for k in range(5)]
    return {"model": generator.eval(), "optimizer": Adam([latent, *noises], lr=0.1)}


def speech_encoder_before_a_language_model() -> Target:
    """A speech encoder from scratch at 1e-3 before a pretrained language model at 1e-5."""
    encoder = nn.Sequential(nn.Conv1d(8, 16, 3), nn.GELU(), nn.Conv1d(16, WIDTH, 3))
    model = nn.ModuleDict({"encoder": encoder, "decoder": nets.Llama()})
    rates = {"encoder": 1e-3, "decoder": 1e-5}
    groups = [{"params": model[name].parameters(), "lr": rate} for name, rate in rates.items()]
    return {"model": model, "optimizer": AdamW(groups, weight_decay=0.0)}


def adam_mini() -> Target:
    """Adam-mini: one named group per parameter, decay .1 on matrices."""
    model = nets.GPT()
    named = model.named_parameters()
    groups = [{"name": n, "params": p, "weight_decay": 0.1 if p.ndim > 1 else 0.0} for n, p in named]
    return {"model": model, "optimizer": Adam_mini(groups, lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)}


def rwkv7() -> Target:
    """RWKV-7: `w0` at twice the rate by `my_lr_scale`, decay on matrices called weight, mixers of shape (1, 1, C)."""
    model = nn.ModuleDict({"emb": nn.Embedding(64, WIDTH), "ln_out": nn.LayerNorm(WIDTH)})
    for number in range(3):
        attention = nn.ModuleDict({"key": nn.Linear(WIDTH, WIDTH, False), "ln_x": nn.GroupNorm(4, WIDTH)})
        for leaf in ("x_r", "x_k", "w0"):
            attention.register_parameter(leaf, nn.Parameter(torch.rand(1, 1, WIDTH)))
        attention.register_parameter("w1", nn.Parameter(torch.zeros(WIDTH, 8)))
        model[f"block_{number}"] = nn.ModuleDict({"ln1": nn.LayerNorm(WIDTH), "att": attention})
    model["head"] = nn.Linear(WIDTH, 64, False)
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and name.endswith(".weight") and "emb" not in name
        kinds.setdefault((2.0 if name.endswith("w0") else 1.0, 0.1 if matrix else 0.0), []).append(parameter)
    groups = [{"params": ps, "my_lr_scale": scale, "weight_decay": decay} for (scale, decay), ps in kinds.items()]
    optimizer = Adam(groups, lr=6e-4, betas=(0.9, 0.99), eps=1e-18, decoupled_weight_decay=True)
    return {"model": model, "optimizer": optimizer}


def td_mpc2() -> Target:
    """TD-MPC2: encoder at .3 of the rate, an empty group for the tasks, targets frozen, the policy in its own Adam."""
    parts = {"_encoder": nets.mlp(8, 64, 32), "_dynamics": nets.mlp(36, 64, 32), "_reward": nets.mlp(36, 64, 11)}
    model = nn.ModuleDict({**parts, "_pi": nets.mlp(32, 64, 8), "_Qs": nets.mlp(36, 64, 11)})
    model["_target_Qs"] = copy.deepcopy(model["_Qs"]).requires_grad_(False)
    slow = {"params": model["_encoder"].parameters(), "lr": 0.3 * 3e-4}
    rest = [{"params": model[name].parameters()} for name in ("_dynamics", "_reward", "_Qs")]
    world = Adam([slow, *rest, {"params": []}], lr=3e-4)
    return {"model": model, "optimizers": [world, Adam(model["_pi"].parameters(), lr=3e-4, eps=1e-5)]}


def bert_summariser() -> Target:
    """BertSumAbs: encoder and decoder under two Adams at 2e-3 and .1, each with its own Noam schedule."""
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 4, 64), 2)
    model = nn.ModuleDict({"bert": models.build("bert"), "decoder": decoder, "generator": nn.Linear(WIDTH, 64)})
    first = Adam(model["bert"].parameters(), lr=2e-3)
    second = Adam([*decoder.parameters(), *model["generator"].parameters()], lr=0.1)
    schedulers = [
        LambdaLR(optimizer, lambda step, warmup=warmup: min((step + 1) ** -0.5, (step + 1) * warmup**-1.5))
        for optimizer, warmup in ((first, 20_000), (second, 10_000))
    ]
    return {"model": model, "optimizers": [first, second], "schedulers": schedulers, "total_steps": 200_000}
