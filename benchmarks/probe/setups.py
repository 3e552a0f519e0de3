"""A setup by its numbers: model, groups, optimizer, schedule, batches; deterministic by seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from benchmarks.probe.nets import KINDS, Data, Net, groups, network
from benchmarks.probe.others import OTHERS

#: Steps of a long run: the truth.
STEPS = 300


class Lion(Optimizer):
    """https://arxiv.org/abs/2302.06675"""

    def __init__(self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                    p.add_((m * first + p.grad * (1 - first)).sign_(), alpha=-group["lr"])
                    m.mul_(second).add_(p.grad, alpha=1 - second)


class Damped(Optimizer):
    """A rule that no table knows: momentum of gradients divided by 0.1 plus the square root of their running norm."""

    def __init__(self, params: Any, lr: float = 1e-2, momentum: float = 0.8) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    size = state["size"] = 0.9 * state.get("size", 0.0) + 0.1 * p.grad.norm()
                    m = state.setdefault("velocity", torch.zeros_like(p))
                    m.mul_(group["momentum"]).add_(p.grad / (0.1 + size.sqrt()))
                    p.sub_(group["lr"] * m)


#: Name → (class, its options, a usual rate).
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any], float]] = {
    "sgd": (SGD, {}, 0.1),
    "momentum": (SGD, {"momentum": 0.9}, 0.02),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}, 0.02),
    "adam": (Adam, {}, 3e-3),
    "adamw": (AdamW, {"weight_decay": 0.05}, 3e-3),
    "rmsprop": (RMSprop, {}, 1e-3),
    "adagrad": (Adagrad, {}, 1e-2),
    "lion": (Lion, {}, 3e-4),
    "muon": (getattr(torch.optim, "Muon", None), {"weight_decay": 0.0}, 0.02),
    "unknown": (Damped, {}, 0.02),
}
_FIRST = [*OPTIMIZERS]  # setups below FURTHER have these
OPTIMIZERS |= {
    "nadam": (NAdam, {}, 3e-3),
    "radam": (RAdam, {}, 3e-3),
    "adamax": (Adamax, {}, 3e-3),
}
#: From this seed on setups are of other kinds, sizes and optimizers as well.
FURTHER = 5000
_MODELS = {**KINDS, **OTHERS}
_CONVOLUTIONS = ("cnn-bn", "resnet-gn", "temporal")
_NORMED = ("gpt", "vit", "post-norm", "cnn-bn", "resnet-gn", "temporal")  # before anything else, or on tokens
SCENARIOS = ("healthy", "one", "all", "two", "edge", "outliers", "low", "one")


@dataclass(frozen=True)
class Spec:
    """``rates``: the peak rate of every group, in order; empty until the setup is labelled."""

    seed: int
    scenario: str
    kind: str
    optimizer: str
    schedule: str
    split: str
    task: str
    width: int
    depth: int
    batch: int
    severity: float
    rates: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.seed} {self.scenario}: {self.kind}, {self.optimizer}, {self.schedule}, {self.split}, {self.task}"

    @property
    def data(self) -> Data:
        outliers = 0.04 if self.scenario == "outliers" else 0.0
        return Data(
            _MODELS[self.kind][1], self.task, self.batch, self.seed, outliers, far=10 ** (2 + 2 * self.severity)
        )


@dataclass
class Setup:
    model: Net
    optimizers: list[Optimizer]
    schedulers: list[Any]

    @property
    def groups(self) -> list[tuple[int, int]]:
        """(optimizer, group) of every rate."""
        return [(o, g) for o, optimizer in enumerate(self.optimizers) for g in range(len(optimizer.param_groups))]


def spec(seed: int) -> Spec:
    r = random.Random(seed * 7919)
    further = seed >= FURTHER
    kinds = list(OTHERS if further else KINDS)
    kind, optimizer = kinds[seed % len(kinds)], r.choice(list(OPTIMIZERS) if further else _FIRST)
    form = _MODELS[kind][1]
    attention = kind in ("gpt", "vit", "post-norm", "llama", "mixer")
    if optimizer == "muon" and kind in _CONVOLUTIONS:
        optimizer = "nesterov"  # convolutions are no matrices
    scenario = SCENARIOS[(seed // len(kinds)) % len(SCENARIOS)]
    if scenario == "outliers" and (form == "tokens" or kind in _NORMED):
        scenario = "healthy"  # norms at the entrance, and tokens, know no outliers
    task = r.choice(["classes", "classes", "noisy", "regression"])
    if form in ("image", "tokens"):
        task = "classes"
    splits = (
        ["decay", "layers", "parts"] if scenario in ("one", "two") else ["single", "parts", "parts", "decay", "layers"]
    )
    if further and attention:
        splits = [split for split in splits if split != "layers"]  # forty, each of which labelling would try alone
    if kind == "fine-tune":
        splits = ["parts"]
    widths, batches = [48, 64] if further else [32, 48], [16, 32] if attention else [16, 32, 64]
    return Spec(
        seed,
        scenario,
        kind,
        optimizer,
        schedule=r.choice(["constant", "constant", "warm-up", "cosine", "one-cycle"]),
        split=r.choice(splits),
        task=task,
        width=32 if attention else r.choice(widths),
        depth=r.choice([2, 3] if further else [2, 3, 5]),
        batch=r.choice(batches),
        severity=r.random(),
    )


def build(spec: Spec, rates: Sequence[float] | None = None) -> Setup:
    """The objects, as training starts; ``rates`` instead of the spec's own."""
    maker = _MODELS[spec.kind][0]
    model = network(maker, spec.width, spec.depth, spec.data.out, spec.seed, fine_tuned=spec.kind == "fine-tune")
    named = list(groups(model, spec.split))
    rule, options, _ = OPTIMIZERS[spec.optimizer]
    split = [named]
    if spec.optimizer == "muon":
        hidden = {id(p) for n, p in model.body.named_parameters() if p.ndim == 2}
        split = [_kept(named, hidden, True), _kept(named, hidden, False)]
    peaks = list(rates if rates is not None else spec.rates) or [1.0] * sum(map(len, split))
    optimizers = []
    for place, part in enumerate(split):
        mine = [{"params": p, "name": n, "lr": peaks.pop(0)} for n, p in part]
        adam = spec.optimizer == "muon" and place == 1
        optimizers.append(AdamW(mine, weight_decay=0.05) if adam else rule(mine, **options))
    return Setup(model, optimizers, [_schedule(spec.schedule, optimizer) for optimizer in optimizers])


def _kept(
    named: Iterable[tuple[str, list[nn.Parameter]]], chosen: set[int], want: bool
) -> list[tuple[str, list[nn.Parameter]]]:
    parts = [(name, [p for p in held if (id(p) in chosen) == want]) for name, held in named]
    return [(name, held) for name, held in parts if held]


def usual(spec: Spec) -> list[float]:
    """The usual rate of every group's optimizer."""
    setup = build(spec)
    own = [OPTIMIZERS[spec.optimizer][2], OPTIMIZERS["adamw"][2]]
    return [own[o] for o, _ in setup.groups]


def _schedule(kind: str, optimizer: Optimizer) -> Any:
    if kind == "warm-up":
        return LambdaLR(optimizer, lambda k: min(1.0, (k + 1) / 60))
    if kind == "cosine":
        return CosineAnnealingLR(optimizer, STEPS)
    if kind == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=STEPS, cycle_momentum=False)
    return None
