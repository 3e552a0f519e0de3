"""Reinforcement learning, adversarial pairs, distillation, continual learning, architecture search and frameworks.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import copy
from typing import Any

import lightning
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, AdamW, NAdam, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import SWALR, AveragedModel

from zoo import models, nets
from zoo.groupings import by_ndim, decay_by

Target = dict[str, Any]


def dqn() -> Target:
    """CleanRL DQN: the target network trains by copying; its gradients are on and no optimizer holds it."""
    q_network, target_network = nets.mlp(4, 120, 84, 2), nets.mlp(4, 120, 84, 2)
    named = {"q_network": q_network, "target_network": target_network}
    return {"models": named, "optimizer": Adam(q_network.parameters(), lr=2.5e-4)}


def sac() -> Target:
    """CleanRL SAC: twin critics with target twins, one Adam for both, and a bare `log_alpha` with its own Adam."""
    actor = nets.mlp(4, 64, 2)
    critics = {name: nets.mlp(6, 64, 1) for name in ("qf1", "qf2")}
    targets = {f"{name}_target": copy.deepcopy(critic) for name, critic in critics.items()}
    log_alpha = torch.zeros(1, requires_grad=True)
    optimizers = {
        "q_optimizer": Adam([p for c in critics.values() for p in c.parameters()], lr=1e-3),
        "actor_optimizer": Adam(list(actor.parameters()), lr=3e-4),
        "a_optimizer": Adam([log_alpha], lr=1e-3),
    }
    return {"models": {"actor": actor, **critics, **targets}, "optimizers": optimizers}


class ActorCritic(nn.Module):
    """Stable-Baselines3's layout: a target inside the policy module."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = nets.mlp(4, 64, 2), nets.mlp(6, 64, 1)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)


def td3() -> Target:
    """TD3: actor and critic with an Adam each, target copies inside the same module without one."""
    policy = ActorCritic()
    optimizers = [Adam(policy.actor.parameters(), lr=1e-3), Adam(policy.critic.parameters(), lr=1e-3)]
    return {"model": policy, "optimizers": optimizers}


def ppo() -> Target:
    """CleanRL PPO: one Adam with eps 1e-5 for actor and critic, annealed linearly by a schedule, clip .5."""
    agent = nn.ModuleDict({"critic": nets.mlp(4, 64, 64, 1), "actor": nets.mlp(4, 64, 64, 2)})
    optimizer = Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    scheduler = LambdaLR(optimizer, lambda update: 1 - update / 976)
    return {"model": agent, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 975, "clip_norm": 0.5}


def rainbow() -> Target:
    """Rainbow and C51: Adam with eps 1.5e-4."""
    online, target = nets.mlp(4, 64, 102), nets.mlp(4, 64, 102)
    optimizer = Adam(online.parameters(), lr=6.25e-5, eps=1.5e-4)
    return {"models": {"online_net": online, "target_net": target}, "optimizer": optimizer, "clip_norm": 10.0}


def a2c_rmsprop() -> Target:
    """A2C: RMSprop 7e-4, eps 1e-5, alpha .99."""
    model = nets.mlp(4, 64, 3)
    return {"model": model, "optimizer": RMSprop(model.parameters(), lr=7e-4, alpha=0.99, eps=1e-5), "clip_norm": 0.5}


def _generator() -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def _discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 4, bias=False)
    )


def dcgan() -> Target:
    """DCGAN: two Adams at 2e-4 with β1 .5."""
    generator, discriminator = _generator(), _discriminator()
    optimizers = {
        "G": Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999)),
        "D": Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999)),
    }
    return {"models": {"G": generator, "D": discriminator}, "optimizers": optimizers}


def wgan_gp() -> Target:
    """WGAN-GP: β (0, .9)."""
    generator, critic = _generator(), nets.mlp(32, 64, 1)
    optimizers = [Adam(part.parameters(), lr=1e-4, betas=(0.0, 0.9)) for part in (generator, critic)]
    return {"models": [generator, critic], "optimizers": optimizers}


def stylegan2() -> Target:
    """StyleGAN2-ADA: β (0, .99), and an average of the generator that no optimizer holds."""
    generator, discriminator = _generator(), _discriminator()
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    optimizers = [
        Adam(part.parameters(), lr=2.5e-3, betas=(0.0, 0.99), eps=1e-8) for part in (generator, discriminator)
    ]
    return {"models": {"G": generator, "D": discriminator, "G_ema": average}, "optimizers": optimizers}


def cyclegan() -> Target:
    """CycleGAN: both generators in one Adam, both discriminators in another, linear decay in the second half."""
    parts = {"G_A": _generator(), "G_B": _generator(), "D_A": _discriminator(), "D_B": _discriminator()}
    optimizers = [
        Adam([p for name in names for p in parts[name].parameters()], lr=2e-4, betas=(0.5, 0.999))
        for names in (("G_A", "G_B"), ("D_A", "D_B"))
    ]
    schedulers = [LambdaLR(o, lambda epoch: 1.0 - max(0, epoch + 1 - 100) / 101) for o in optimizers]
    return {"models": parts, "optimizers": optimizers, "schedulers": schedulers, "total_steps": 200}


def hifigan() -> Target:
    """HiFi-GAN: AdamW (.8, .99), two discriminators in one optimizer, exponential decay per epoch."""
    generator, periods, scales = _generator(), _discriminator(), _discriminator()
    optimizers = [
        AdamW(generator.parameters(), 2e-4, betas=(0.8, 0.99)),
        AdamW([*scales.parameters(), *periods.parameters()], 2e-4, betas=(0.8, 0.99)),
    ]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.999) for o in optimizers]
    named = {"generator": generator, "mpd": periods, "msd": scales}
    return {"models": named, "optimizers": optimizers, "schedulers": schedulers}


def distillation() -> Target:
    """Distillation: the teacher is frozen, in evaluation mode and in no optimizer."""
    student, teacher = nets.ResNet(), nets.ResNet().eval().requires_grad_(False)
    optimizer = SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return {"models": {"student": student, "teacher": teacher}, "optimizer": optimizer}


def continual_heads() -> Target:
    """Continual learning: the heads of earlier tasks are frozen and no longer in the optimizer."""
    model = nn.ModuleDict({"body": nets.mlp(32, 64, 64), "heads": nn.ModuleList(nn.Linear(64, 5) for _ in range(3))})
    for head in model["heads"][:2]:
        head.requires_grad_(False)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.03, momentum=0.9)
    return {"model": model, "optimizer": optimizer}


def darts() -> Target:
    """DARTS: SGD .025 on the weights, Adam (.5, .999) with L2 1e-3 on the architecture, which is no parameter."""
    model = nets.ResNet()
    alphas = [torch.zeros(14, 8, requires_grad=True) for _ in range(2)]
    weights = SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    architecture = Adam(alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    scheduler = CosineAnnealingLR(weights, 50, eta_min=0.001)
    return {"model": model, "optimizers": [weights, architecture], "scheduler": scheduler, "total_steps": 50}


def physics_informed() -> Target:
    """A physics-informed network: L-BFGS at rate 1 with a line search."""
    model = nets.mlp(2, 20, 20, 1)
    return {"model": model, "optimizer": LBFGS(model.parameters(), lr=1.0, line_search_fn="strong_wolfe")}


def weight_averaging() -> Target:
    """Stochastic weight averaging: the average is a module of its own, and its schedule ends at a constant rate."""
    model = nets.ResNet()
    average = AveragedModel(model)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = SWALR(optimizer, swa_lr=0.05, anneal_epochs=5)
    return {"models": {"model": model, "swa": average}, "optimizer": optimizer, "scheduler": scheduler}


def plateau() -> Target:
    """NAdam with a reduction on the plateau of the validation loss."""
    model = nets.mlp(32, 64, 10)
    optimizer = NAdam(model.parameters(), lr=2e-3)
    return {"model": model, "optimizer": optimizer, "scheduler": ReduceLROnPlateau(optimizer, patience=5)}


def muon_and_adamw() -> Target:
    """Muon as its authors ask: hidden matrices at .02, embeddings, head, gains and biases to AdamW at 3e-4."""
    model = nets.GPT()
    hidden = [p for n, p in model.named_parameters() if ".h." in n and p.ndim == 2]
    others = [p for n, p in model.named_parameters() if not (".h." in n and p.ndim == 2)]
    optimizers = [
        torch.optim.Muon(hidden, lr=0.02, momentum=0.95, weight_decay=0.01),
        AdamW(others, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    return {"model": model, "optimizers": optimizers, "example_inputs": nets.tokens()}


class Classifier(lightning.LightningModule):
    """A LightningModule whose schedule is stepped with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nets.ViT(declares=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = AdamW(by_ndim(self), lr=1e-3)
        scheduler = OneCycleLR(optimizer, 1e-3, total_steps=1_000)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def lightning_module() -> Classifier:
    """Lightning: one-cycle with `interval` "step"."""
    return Classifier()


class Adversaries(lightning.LightningModule):
    """A LightningModule with two optimizers and manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = _generator(), _discriminator()

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        parts = (self.generator, self.discriminator)
        return [Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999)) for part in parts], []


def lightning_gan() -> Adversaries:
    """Lightning's GAN: a list of two optimizers and no scheduler."""
    return Adversaries()


def frozen_backbone_finetune() -> Target:
    """A frozen backbone kept in evaluation mode, and a new head with the rates of a new head."""
    model = models.build("resnet")
    model.resnet.requires_grad_(False).eval()
    model.resnet.train = lambda mode=True: model.resnet  # the usual way to keep it in evaluation mode
    return {"model": model, "optimizer": AdamW(model.classifier.parameters(), lr=1e-3)}


def metric_learning() -> Target:
    """Metric learning: the proxies of the loss at a hundred times the rate of the network."""
    model, loss = nets.mlp(32, 64, 16), nn.Module()
    loss.register_parameter("proxies", nn.Parameter(torch.randn(10, 16)))
    groups = [{"params": model.parameters(), "lr": 1e-4}, {"params": loss.parameters(), "lr": 1e-2}]
    return {
        "model": model,
        "optimizer": AdamW(groups, weight_decay=1e-4),
        "loss_fn": None,
        "extra_modules": {"loss": loss},
    }


def norms_of_one_kind_exempt_by_type() -> Target:
    """Exempt by type: every class of norm that the model has, and biases."""
    model = models.build("wav2vec2")
    norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm) for p in m.parameters()}
    groups = decay_by(model, lambda n, p: id(p) not in norms and p.ndim > 1, 0.01)
    return {"model": model, "optimizer": AdamW(groups, lr=1e-4, betas=(0.9, 0.98))}
