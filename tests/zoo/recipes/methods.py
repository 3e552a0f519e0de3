"""Optimizers off the common path, wrappers around models and optimizers, and layouts that look odd and are right.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it. The
optimizer classes here have the options of the published ones, and plain steps: a linter reads the options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import accelerate
import torch
from torch import nn
from torch.optim import ASGD, SGD, Adamax, AdamW, Muon, Optimizer, RAdam, Rprop
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LambdaLR, LinearLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoo import models, nets
from zoo.groupings import by_ndim

Target = dict[str, Any]


class Plain(Optimizer):
    """Descends along the gradient; its subclasses differ in their options."""

    options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, params: Any, **given: Any) -> None:
        super().__init__(params, {**self.options, **given})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=group["lr"])


def _published(
    name: str, lr: float, weight_decay: float = 0.0, betas: tuple[float, ...] = (0.9, 0.999), **options: Any
) -> Any:
    """An optimizer class with the name, the options and the defaults of a published one."""
    return type(name, (Plain,), {"options": {"lr": lr, "betas": betas, "weight_decay": weight_decay, **options}})


Lion = _published("Lion", 1e-4, betas=(0.9, 0.99))
Lamb = _published("Lamb", 1e-3, 0.01, eps=1e-6, max_grad_norm=1.0, trust_clip=False)
Prodigy = _published(
    "Prodigy", 1.0, beta3=None, eps=1e-8, decouple=True, safeguard_warmup=False, d0=1e-6, d_coef=1.0, d=1e-6
)
DAdaptAdam = _published("DAdaptAdam", 1.0, eps=1e-8, decouple=True, d=1e-6, k=0)
AdamWScheduleFree = _published(
    "AdamWScheduleFree", 0.0025, eps=1e-8, r=0.0, k=0, warmup_steps=0, train_mode=False, lr_max=-1.0
)
AdEMAMix = _published("AdEMAMix", 1e-3, 0.1, (0.9, 0.999, 0.9999), alpha=5.0, eps=1e-8)
SOAP = _published("SOAP", 3e-3, 0.01, (0.95, 0.95), shampoo_beta=-1, eps=1e-8, precondition_frequency=10)
Sophia = _published("Sophia", 1e-4, 0.1, (0.965, 0.99), rho=0.04, maximize=False)
Adan = _published("Adan", 1e-3, 0.02, (0.98, 0.92, 0.99), eps=1e-8, no_prox=False)
GaLoreAdamW = _published("GaLoreAdamW", 1e-3, eps=1e-6, correct_bias=True)
AnyPrecisionAdamW = _published("AnyPrecisionAdamW", 1e-3, 0.01, eps=1e-8, use_kahan_summation=True)


class SAM(Optimizer):
    """Sharpness-aware minimisation as published: it shares the groups of its base optimizer."""

    def __init__(self, params: Any, base: type[Optimizer], rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, "adaptive": False, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)


class Lookahead(Optimizer):
    """Lookahead as published: a wrapper that shares the groups and keeps slow weights."""

    def __init__(self, base_optimizer: Optimizer, alpha: float = 0.5, k: int = 6) -> None:
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}
        self.defaults, self.base_optimizer = dict(base_optimizer.defaults), base_optimizer
        self.defaults.update(lookahead_alpha=alpha, lookahead_k=k, lookahead_step=0)
        self.param_groups, self.state = base_optimizer.param_groups, base_optimizer.state
        for group in self.param_groups:
            group.update(lookahead_alpha=alpha, lookahead_k=k, lookahead_step=0)

    def step(self, closure: Any = None) -> None:
        self.base_optimizer.step(closure)


def _gpt(optimizer: type[Optimizer], weight_decay: float = 0.1, **options: Any) -> Target:
    model = nets.GPT()
    return {"model": model, "optimizer": optimizer(by_ndim(model, weight_decay), **options)}


def lion() -> Target:
    """Lion: a tenth of AdamW's rate and ten times its decay."""
    return _gpt(Lion, 1.0, lr=6e-5, betas=(0.95, 0.98))


def lamb_bert() -> Target:
    """LAMB for BERT: 6e-3 with matrices decayed at .01."""
    return _gpt(Lamb, 0.01, lr=6e-3)


def prodigy() -> Target:
    """Prodigy at rate 1 under a cosine, as its authors ask."""
    target = _gpt(Prodigy, 0.01, safeguard_warmup=True)
    return {**target, "scheduler": CosineAnnealingLR(target["optimizer"], 1_000), "total_steps": 1_000}


def dadaptation() -> Target:
    """D-Adaptation at rate 1 without a schedule."""
    return _gpt(DAdaptAdam, 0.01)


def schedule_free() -> Target:
    """Schedule-free AdamW: the highest rates of Adam, a warm-up of its own, no scheduler."""
    return _gpt(AdamWScheduleFree, 0.1, lr=0.0025, warmup_steps=2_000)


def ademamix() -> Target:
    """AdEMAMix: three betas, the third the slowest."""
    return _gpt(AdEMAMix)


def soap() -> Target:
    """SOAP: β (.95, .95), rate 3e-3, preconditioner refreshed every ten steps."""
    return _gpt(SOAP, 0.01)


def sophia() -> Target:
    """Sophia: β (.965, .99), decay .2."""
    return _gpt(Sophia, 0.2, lr=4e-4)


def adan() -> Target:
    """Adan: its three betas are weights of other things than Adam's, and do not rise."""
    return _gpt(Adan, 0.02)


def galore() -> Target:
    """GaLore: hidden matrices carry `rank`, `update_proj_gap`, `scale` and `proj_type`, the others do not; rate .01."""
    model = nets.Llama()
    hidden = [p for n, p in model.named_parameters() if n.startswith("layers") and p.ndim == 2]
    chosen = {id(p) for p in hidden}
    groups = [{"params": [p for p in model.parameters() if id(p) not in chosen]},
              {"params": hidden, "rank": 8, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}]  # fmt: skip
    return {"model": model, "optimizer": GaLoreAdamW(groups, lr=0.01)}


def kahan_bfloat16() -> Target:
    """bfloat16 weights with Kahan summation: AnyPrecisionAdamW at 2e-5, where plain AdamW would stand still."""
    model = nets.Llama().bfloat16()
    return {"model": model, "optimizer": AnyPrecisionAdamW(model.parameters(), lr=2e-5)}


class DeepSpeedZeroOptimizer(Plain):
    """Steps float32 copies of half-precision weights, as DeepSpeed and Apex do."""


def master_weights() -> Target:
    """Half-precision weights whose float32 masters sit in the optimizer: none of the model's own tensors is in it."""
    model = nets.GPT().bfloat16()
    masters = [nn.Parameter(p.detach().float()) for p in model.parameters()]
    return {"model": model, "optimizer": DeepSpeedZeroOptimizer(masters, lr=2e-5, weight_decay=0.01)}


def sharpness_aware() -> Target:
    """SAM around SGD: `rho` and `adaptive` in the groups, shared with the base optimizer."""
    model = nets.ResNet()
    return {"model": model, "optimizer": SAM(model.parameters(), SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)}


def lookahead() -> Target:
    """Ranger in its modular form: Lookahead around RAdam."""
    model = nets.ResNet()
    return {"model": model, "optimizer": Lookahead(RAdam(model.parameters(), lr=1e-3))}


def averaged_sgd() -> Target:
    """AWD-LSTM's second phase: ASGD from the first step on, rate 30, clip .25."""
    model = nn.ModuleDict({"encoder": nn.Embedding(64, 32), "rnn": nn.LSTM(32, 32, 2), "decoder": nn.Linear(32, 64)})
    optimizer = ASGD(model.parameters(), lr=30, t0=0, lambd=0.0, weight_decay=1.2e-6)
    return {"model": model, "optimizer": optimizer, "clip_norm": 0.25}


def rprop() -> Target:
    """Rprop on full batches."""
    model = nets.mlp(8, 16, 1)
    return {"model": model, "optimizer": Rprop(model.parameters(), lr=0.01)}


def adamax() -> Target:
    """Adamax 2e-3, β (.9, .999), under a linear warm-up."""
    model = nets.mlp(8, 64, 1)
    optimizer = Adamax(model.parameters(), lr=2e-3)
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": LinearLR(optimizer, 0.1, total_iters=100),
        "total_steps": 1_000,
    }


def cyclical() -> Target:
    """Cyclical rates: triangles between 1e-3 and 6e-3, momentum against them."""
    model = nets.ResNet()
    optimizer = SGD(model.parameters(), lr=1e-3, momentum=0.9)
    scheduler = CyclicLR(optimizer, 1e-3, 6e-3, step_size_up=200)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 2_000}


def optimizer_per_parameter() -> Target:
    """torchtune's optimizer in the backward pass: one AdamW per parameter."""
    model = nets.Llama(layers=2)
    return {
        "model": model,
        "optimizer": {name: AdamW([p], lr=2e-5, fused=False) for name, p in model.named_parameters()},
    }


def accelerated() -> Target:
    """Everything prepared by accelerate: wrappers around the optimizer and the scheduler."""
    model = nets.GPT()
    optimizer = AdamW(by_ndim(model), lr=3e-4)
    scheduler = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 1_000))
    model, optimizer, scheduler = accelerate.Accelerator(cpu=True).prepare(model, optimizer, scheduler)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 1_000}


def compiled() -> Target:
    """nanoGPT after `torch.compile`: the optimizer was made from the bare model."""
    model = nets.GPT()
    optimizer = AdamW(by_ndim(model), lr=6e-4, betas=(0.9, 0.95))
    return {"model": torch.compile(model), "optimizer": optimizer}


def data_parallel() -> Target:
    """DataParallel around a ResNet: every name starts with `module.`."""
    model = nn.DataParallel(nets.ResNet())
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)}


def average_of_weights() -> Target:
    """An exponential average by torch's own AveragedModel, its gradients on, in no optimizer."""
    model = nets.ResNet()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    return {"models": {"model": model, "ema": average}, "optimizer": SGD(model.parameters(), lr=0.1, momentum=0.9)}


def large_margin_head() -> Target:
    """ArcFace: backbone and class centres in one SGD, centres as a module of the loss's package."""
    backbone, head = nets.ResNet(32), nn.Module()
    head.weight = nn.Parameter(0.01 * torch.randn(100, 32))
    groups = [{"params": backbone.parameters()}, {"params": head.parameters()}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4)
    return {"models": {"backbone": backbone, "header": head}, "optimizer": optimizer}


def moonlight_muon() -> Target:
    """Moonlight: Muon matched to AdamW's step, so that both run at one rate and one decay."""
    model = models.build("llama")
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in n and "lm_head" not in n]
    chosen = {id(p) for p in inner}
    optimizers = [Muon(inner, lr=2e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
                  AdamW([p for p in model.parameters() if id(p) not in chosen], lr=2e-3, weight_decay=0.1)]  # fmt: skip
    return {"model": model, "optimizers": optimizers}


class MuonWithAuxAdam(Plain):
    """Keller Jordan's class for both: `use_muon` says which rule a group follows."""


def muon_with_aux_adam() -> Target:
    """One optimizer for both: hidden matrices with `use_muon` at .02, the others with Adam's options at 3e-4."""
    model = nets.GPT()
    hidden = [p for n, p in model.named_parameters() if ".h." in n and p.ndim == 2]
    chosen = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups: Iterable[Target] = [
        {"params": hidden, "lr": 0.02, "momentum": 0.95, "weight_decay": 0.01, "use_muon": True},
        {"params": others, "lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-10, "weight_decay": 0.01, "use_muon": False},
    ]
    return {"model": model, "optimizer": MuonWithAuxAdam(groups)}


def frozen_and_lazy() -> Target:
    """A lazy head that the first batch will shape, trained with the body from the start."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.05, momentum=0.9)}
