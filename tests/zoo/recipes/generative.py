"""Generative models and fields: adversarial pairs, autoencoders, diffusion, speech synthesis, three dimensions.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim import SGD, Adam, AdamW, RAdam, RMSprop
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, MultiStepLR, OneCycleLR, StepLR

from zoo import models, nets

Target = dict[str, Any]


def _conv(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, outer, 3))


def ttur() -> Target:
    """Two time scales: discriminator at 4e-4, generator at 1e-4, β1 = 0; spectral norm on both (SAGAN)."""
    parts = [
        nn.Sequential(spectral_norm(nn.Conv2d(3, 16, 3)), nn.ReLU(), spectral_norm(nn.Conv2d(16, 3, 3))) for _ in "GD"
    ]
    optimizers = [Adam(part.parameters(), lr, betas=(0.0, 0.9)) for part, lr in zip(parts, (1e-4, 4e-4), strict=True)]
    return {"models": {"G": parts[0], "D": parts[1]}, "optimizers": optimizers}


def stylegan_mapping() -> Target:
    """StyleGAN in rosinality's code: the mapping network at a hundredth of the rate, kept as `mult` in its group."""
    generator = nn.ModuleDict({"style": nets.mlp(32, 32, 32), "generator": _conv(4, 3)})
    discriminator, running = _conv(3, 1), copy.deepcopy(generator).requires_grad_(False)
    g_optimizer = Adam(generator["generator"].parameters(), lr=1e-3, betas=(0.0, 0.99))
    g_optimizer.add_param_group({"params": generator["style"].parameters(), "lr": 1e-3 * 0.01, "mult": 0.01})
    d_optimizer = Adam(discriminator.parameters(), lr=1e-3, betas=(0.0, 0.99))
    return {
        "models": {"G": generator, "D": discriminator, "g_running": running},
        "optimizers": [g_optimizer, d_optimizer],
    }


def wgan_clipping() -> Target:
    """The first Wasserstein GAN: RMSprop 5e-5 for both, weights of the critic clipped by the loop."""
    generator, critic = nets.mlp(16, 64, 32), nets.mlp(32, 64, 1)
    optimizers = [RMSprop(part.parameters(), lr=5e-5) for part in (generator, critic)]
    return {"models": {"generator": generator, "discriminator": critic}, "optimizers": optimizers}


def biggan() -> Target:
    """BigGAN: generator 5e-5, discriminator 2e-4, eps 1e-6, class embeddings shared, an average of the generator."""
    generator = nn.ModuleDict(
        {"shared": nn.Embedding(10, 8), "linear": spectral_norm(nn.Linear(8, 32)), "out": _conv(4, 3)}
    )
    discriminator = nn.ModuleDict({"body": _conv(3, 8), "embed": spectral_norm(nn.Embedding(10, 8))})
    optimizers = [
        Adam(generator.parameters(), lr=5e-5, betas=(0.0, 0.999), weight_decay=0, eps=1e-6),
        Adam(discriminator.parameters(), lr=2e-4, betas=(0.0, 0.999), weight_decay=0, eps=1e-6),
    ]
    named = {"G": generator, "D": discriminator, "G_ema": copy.deepcopy(generator).requires_grad_(False)}
    return {"models": named, "optimizers": optimizers}


def vae() -> Target:
    """pytorch/examples VAE: Adam 1e-3."""
    model = nn.ModuleDict(
        {"fc1": nn.Linear(64, 32), "fc21": nn.Linear(32, 8), "fc22": nn.Linear(32, 8), "fc3": nn.Linear(8, 64)}
    )
    return {"model": model, "optimizer": Adam(model.parameters(), lr=1e-3)}


class PerceptualLoss(nn.Module):
    """taming-transformers: the judge is frozen, the discriminator and `logvar` train, all inside one loss."""

    def __init__(self) -> None:
        super().__init__()
        self.perceptual_loss = _conv(3, 8).requires_grad_(False)
        self.discriminator = _conv(3, 1)
        self.logvar = nn.Parameter(torch.zeros(()))


def vqgan() -> Target:
    """VQGAN: autoencoder and codebook in one Adam, the discriminator inside the loss in another, 4.5e-6 · batch."""
    model = nn.ModuleDict({"encoder": _conv(3, 8), "quantize": nn.Embedding(64, 8), "decoder": _conv(8, 3)})
    loss = PerceptualLoss()
    loss.logvar.requires_grad_(False)
    optimizers = [
        Adam(model.parameters(), lr=5.4e-5, betas=(0.5, 0.9)),
        Adam(loss.discriminator.parameters(), lr=5.4e-5, betas=(0.5, 0.9)),
    ]
    return {"model": model, "optimizers": optimizers, "extra_modules": {"loss": loss}}


def latent_diffusion() -> Target:
    """CompVis latent diffusion: U-Net, text encoder and learned `logvar` in one AdamW, first stage frozen, LambdaLR."""
    model, conditioner = nets.UNet(), models.build("clip").text_model
    first_stage = _conv(3, 4).eval().requires_grad_(False)
    params = [*model.parameters(), *conditioner.parameters()]
    optimizer = AdamW(params, lr=1e-4)
    scheduler = LambdaLR(optimizer, lambda n: min(1.0, 1e-6 + n / 10_000))
    named = {"model": model, "cond_stage_model": conditioner, "first_stage_model": first_stage}
    return {"models": named, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 500_000}


def edm() -> Target:
    """EDM: Adam 1e-3, β (.9, .999), warm-up written by the loop, an average of the network beside."""
    net = nets.UNet()
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    return {
        "models": {"net": net, "ema": ema},
        "optimizer": Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8),
    }


def consistency_model() -> Target:
    """Consistency distillation: RAdam 8e-6, a target model and a teacher that are copies."""
    model = nets.UNet()
    target, teacher = (copy.deepcopy(model).requires_grad_(False) for _ in range(2))
    optimizer = RAdam(model.parameters(), lr=8e-6, weight_decay=0.0)
    return {"models": {"model": model, "target_model": target, "teacher_model": teacher}, "optimizer": optimizer}


def dreambooth() -> Target:
    """DreamBooth: U-Net and text encoder at 5e-6 in one AdamW, the autoencoder frozen."""
    unet, text_encoder = nets.UNet(), models.build("clip").text_model
    vae = _conv(3, 4).requires_grad_(False)
    optimizer = AdamW([*unet.parameters(), *text_encoder.parameters()], lr=5e-6, weight_decay=1e-2)
    scheduler = LambdaLR(optimizer, lambda step: 1.0)
    named = {"unet": unet, "text_encoder": text_encoder, "vae": vae}
    return {"models": named, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 800}


def vits() -> Target:
    """VITS: two AdamW at 2e-4, β (.8, .99), eps 1e-9; weight norm everywhere; gamma .999875 per epoch."""
    nets_ = [
        nn.Sequential(weight_norm(nn.Conv1d(8, 16, 3)), nn.LeakyReLU(), weight_norm(nn.Conv1d(16, 8, 3))) for _ in "gd"
    ]
    optimizers = [AdamW(net.parameters(), 2e-4, betas=(0.8, 0.99), eps=1e-9) for net in nets_]
    schedulers = [ExponentialLR(optimizer, gamma=0.999875) for optimizer in optimizers]
    return {"models": {"net_g": nets_[0], "net_d": nets_[1]}, "optimizers": optimizers, "schedulers": schedulers}


def tacotron2() -> Target:
    """Tacotron 2: Adam 1e-3 with L2 1e-6 and eps 1e-6, clip 1."""
    parts = {
        "embedding": nn.Embedding(64, 32),
        "encoder": nn.LSTM(32, 16, bidirectional=True),
        "decoder_rnn": nn.LSTMCell(32, 32),
    }
    model = nn.ModuleDict({**parts, "linear_projection": nn.Linear(32, 80)})
    return {"model": model, "optimizer": Adam(model.parameters(), lr=1e-3, weight_decay=1e-6), "clip_norm": 1.0}


def neus() -> Target:
    """NeuS: three networks and the single `variance` in one Adam at 5e-4, the cosine written by the loop."""
    sdf, color = nets.mlp(39, 64, 64, 9), nets.mlp(24, 64, 3)
    deviation = nn.Module()
    deviation.register_parameter("variance", nn.Parameter(torch.tensor(0.3)))
    params = [*sdf.parameters(), *deviation.parameters(), *color.parameters()]
    return {"models": {"sdf": sdf, "deviation": deviation, "color": color}, "optimizer": Adam(params, lr=5e-4)}


def tensorf() -> Target:
    """TensoRF: factor planes and lines at 2e-2, basis and network at 1e-3, β (.9, .99); the loop decays them."""
    model = nn.Module()
    model.density_plane = nn.ParameterList([nn.Parameter(0.1 * torch.randn(1, 16, 32, 32)) for _ in range(3)])
    model.density_line = nn.ParameterList([nn.Parameter(0.1 * torch.randn(1, 16, 32, 1)) for _ in range(3)])
    model.basis_mat, model.renderModule = nn.Linear(48, 27, bias=False), nets.mlp(27, 64, 3)
    groups = [
        {"params": model.density_line, "lr": 0.02}, {"params": model.density_plane, "lr": 0.02},
        {"params": model.basis_mat.parameters(), "lr": 1e-3}, {"params": model.renderModule.parameters(), "lr": 1e-3},
    ]  # fmt: skip
    return {"model": model, "optimizer": Adam(groups, betas=(0.9, 0.99))}


def plenoxels() -> Target:
    """A grid of densities and harmonics under RMSprop at 30 and .01, as Plenoxels tunes them."""
    grid = nn.Module()
    grid.density_data, grid.sh_data = nn.Parameter(torch.full((500, 1), 0.1)), nn.Parameter(torch.zeros(500, 27))
    groups = [{"params": [grid.density_data], "lr": 30.0}, {"params": [grid.sh_data], "lr": 1e-2}]
    return {"model": grid, "optimizer": RMSprop(groups, alpha=0.95, eps=1e-8)}


def siren() -> Target:
    """SIREN: Adam 1e-4, weights initialised for sines of frequency 30."""
    model = nets.mlp(2, 256, 256, 1)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, -math.sqrt(6 / 256) / 30, math.sqrt(6 / 256) / 30)
    return {"model": model, "optimizer": Adam(model.parameters(), lr=1e-4)}


def pose_refinement() -> Target:
    """BARF: the field at 1e-3 and the poses at 3e-3 in optimizers of their own, each with its exponential decay."""
    graph = nn.ModuleDict({"nerf": nets.mlp(63, 64, 4), "se3_refine": nn.Embedding(20, 6)})
    nn.init.zeros_(graph["se3_refine"].weight)
    optimizers = [Adam(graph["nerf"].parameters(), lr=1e-3), Adam(graph["se3_refine"].parameters(), lr=3e-3)]
    decays = ((1e-4 / 1e-3) ** (1 / 200_000), (1e-5 / 3e-3) ** (1 / 200_000))
    schedulers = [ExponentialLR(optimizer, gamma) for optimizer, gamma in zip(optimizers, decays, strict=True)]
    return {"model": graph, "optimizers": optimizers, "schedulers": schedulers, "total_steps": 200_000}


def style_transfer() -> Target:
    """Neural style by gradient descent on the image: its pixels are the only thing that trains."""
    network, pixels = _conv(3, 8).eval().requires_grad_(False), nn.ParameterDict({"image": torch.rand(1, 3, 32, 32)})
    return {"models": {"vgg": network, "canvas": pixels}, "optimizer": Adam(pixels.parameters(), lr=0.05)}


def super_resolution() -> Target:
    """ESRGAN in BasicSR: Adam 2e-4 with an empty β2 change, halved at milestones."""
    model = nn.ModuleDict({"conv_first": nn.Conv2d(3, 16, 3), "body": _conv(16, 16), "conv_last": nn.Conv2d(16, 3, 3)})
    optimizer = Adam(model.parameters(), lr=2e-4, betas=(0.9, 0.99), weight_decay=0)
    scheduler = MultiStepLR(optimizer, [50_000, 100_000, 200_000, 300_000], 0.5)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 400_000}


class Glow(nn.Module):
    """One step of a flow: activation norm and an invertible 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale = nn.Parameter(torch.zeros(1, 8, 1, 1)), nn.Parameter(torch.ones(1, 8, 1, 1))
        self.weight, self.net = nn.Parameter(torch.eye(8)), _conv(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def glow() -> Target:
    """Glow: Adam 1e-4 on a stack of flow steps with free-standing tensors."""
    model = nn.ModuleList(Glow() for _ in range(4))
    return {"model": model, "optimizer": Adam(model.parameters(), lr=1e-4)}


def nnunet() -> Target:
    """nnU-Net: SGD .01, momentum .99, Nesterov, decay 3e-5 on everything, polynomial, clip 12."""
    model = nets.UNet()
    optimizer = SGD(model.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    scheduler = LambdaLR(optimizer, lambda epoch: (1 - min(epoch, 999) / 1_000) ** 0.9)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 1_000, "clip_norm": 12.0}


def patch_tst() -> Target:
    """PatchTST: Adam 1e-4 under a one-cycle with a short rise."""
    model = nn.Sequential(nn.Linear(16, 32), nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), nn.Linear(32, 96))
    optimizer = Adam(model.parameters(), lr=1e-4)
    scheduler = OneCycleLR(optimizer, 1e-4, steps_per_epoch=100, epochs=20, pct_start=0.3)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 2_000}


def tabnet() -> Target:
    """TabNet: Adam 2e-2 on dense layers with batch norms, stepped by .9."""
    model = nn.Sequential(
        nn.BatchNorm1d(16), nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.GLU(), nn.Linear(16, 2)
    )
    optimizer = Adam(model.parameters(), lr=2e-2)
    return {"model": model, "optimizer": optimizer, "scheduler": StepLR(optimizer, 10, 0.9), "total_steps": 200}


class FeatureTokenizer(nn.Module):
    """FT-Transformer's: one free tensor per kind of feature."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.1 * torch.randn(10, 32)), nn.Parameter(torch.zeros(10, 32))


def ft_transformer() -> Target:
    """FT-Transformer: tokenizer, norms and biases exempt by name, AdamW 1e-4, decay 1e-5."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 3, enable_nested_tensor=False)
    model = nn.ModuleDict({"tokenizer": FeatureTokenizer(), "encoder": encoder, "head": nn.Linear(32, 2)})
    named = list(model.named_parameters())
    spared = [p for n, p in named if any(part in n for part in ("tokenizer", ".norm", ".bias", "_bias"))]
    chosen = {id(p) for p in spared}
    groups = [{"params": [p for _, p in named if id(p) not in chosen]}, {"params": spared, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-4, weight_decay=1e-5)}
