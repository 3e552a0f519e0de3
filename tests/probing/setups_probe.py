"""Models, optimizers and training steps whose state is of every kind there is."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import nn
from torch.optim import lr_scheduler


class Plain(nn.Module):
    """Batch norm, dropout, and parameters of several shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class Tied(nn.Module):
    """A tied weight, an alias of a part of its storage, and a weight that was frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 1)
        self.b.weight = self.a.weight
        self.row = nn.Parameter(self.head.weight.data.view(6))
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))) * self.frozen + self.row)


class Stateful(nn.Module):
    """Everything a forward pass can change beside parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.head = nn.utils.spectral_norm(nn.Linear(6, 1))
        self.register_buffer("seen", torch.zeros(6), persistent=False)
        self.generator = torch.Generator().manual_seed(5)
        self.python, self.numpy = random.Random(1), numpy.random.default_rng(2)
        self.average, self.array = torch.zeros(6), numpy.zeros(3)
        self.calls, self.history, self.table = 0, [1.5], {"last": None, 3: [torch.ones(2)]}
        self.recent: Any = collections.deque([1], maxlen=3)
        self.kinds = {"a"}
        self.bundle = (torch.zeros(2), [0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.history.append(float(self.calls))
        self.table["last"] = self.history[-2:]
        self.table[f"new{self.calls}"] = torch.full((2,), float(self.calls))
        self.table[3][0].add_(1)
        self.recent.append(self.calls)
        self.kinds.add(str(self.calls))
        self.bundle[0].add_(1)
        self.bundle[1].append(self.calls)
        self.array += self.numpy.standard_normal(3)
        self.late = getattr(self, "late", 0) + 1
        with torch.no_grad():
            self.average.lerp_(x.mean(0), 0.1)
            self.seen.add_(x.mean(0))
        noise = torch.randn(x.shape, generator=self.generator) * 0.1 + self.python.random() * 0.01
        return self.head(torch.relu(self.inner(x + noise + self.average + self.seen * 0.01)))


class Recurrent(nn.Module):
    """Packed weights that cuDNN and friends flatten, and channels in another memory order."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 1)
        self.conv = nn.Conv2d(2, 2, 2).to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image = x.repeat(1, 2)[:, :8].reshape(-1, 2, 2, 2)
        return self.head(self.lstm(x[:, None].expand(-1, 3, -1))[0][:, -1]) + self.conv(image).mean((1, 2, 3))[:, None]


class Table(nn.Module):
    """An embedding with sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(30, 1, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table((x.abs() * 10).long() % 30)


class Odd(torch.optim.Optimizer):
    """An optimizer nobody has heard of: attributes, slots, nested and lazily created state, new storage every step."""

    class Box:
        __slots__ = ("count", "mean")

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "tries": [0]})
        self.total, self.box = 0.0, Odd.Box()
        self.box.count = 0
        self.log: Any = collections.deque(maxlen=4)

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        self.box.count += 1
        self.extra = {"made": self.box.count}
        for group in self.param_groups:
            group["tries"] = [*group["tries"], self.box.count]
            group["fresh"] = True
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state.setdefault(p, {"nested": {"m": torch.zeros_like(p)}, "steps": [0]})
                state["nested"]["m"].lerp_(p.grad, 0.3)
                state["steps"].append(self.box.count)
                state[f"k{self.box.count % 3}"] = p.grad.sign()
                p.data = p.data - group["lr"] * state["nested"]["m"].sign()
                p.grad.mul_(0.5)
                self.total += float(p.grad.norm())
        self.box.mean = self.total / self.box.count
        self.log.append(self.total)
        return loss


class Sharp(torch.optim.Optimizer):
    """Sharpness-aware: it needs gradients, moves away, and asks for gradients there."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.base = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9)
        self.param_groups = self.base.param_groups

    def step(self, closure: Any = None) -> None:
        assert closure is not None, "a closure is needed"
        params = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in params])) + 1e-12
            moves = [0.05 * p.grad / norm for p in params]
            torch._foreach_add_(params, moves)
        closure()
        with torch.no_grad():
            torch._foreach_sub_(params, moves)
        self.base.step()


class Two(torch.optim.Optimizer):
    """It has two modes, and steps in one of them (a schedule-free optimizer)."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "train_mode": False})

    def train(self) -> None:
        self._switch(True)

    @torch.no_grad()
    def _switch(self, mode: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != mode:
                for p in group["params"]:
                    p.add_(0.01 if mode else -0.01)
            group["train_mode"] = mode

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            assert group["train_mode"], "not in train mode"
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])


Maker = Callable[[Any], torch.optim.Optimizer]


def _muon(params: Any) -> torch.optim.Optimizer:
    groups = list(params)
    matrices = [p for g in groups for p in g["params"] if p.ndim == 2 and p.requires_grad]
    return torch.optim.Muon(matrices, lr=1e-2)


OPTIMIZERS: dict[str, Maker] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw-tensor-lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.05),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "muon": _muon,
    "odd": lambda p: Odd(p, 0.01),
    "two": lambda p: Two(p, 0.01),
}
#: Those whose step wants a closure, one group, or sparse gradients.
SPECIAL: dict[str, Maker] = {
    "lbfgs": lambda p: torch.optim.LBFGS([q for g in p for q in g["params"]], lr=0.5, max_iter=3),
    "sharp": lambda p: Sharp(p, 0.05),
}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "tied": Tied,
    "stateful": Stateful,
    "recurrent": Recurrent,
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / (k + 1)),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
}


class Setup:
    """A model with its optimizer, scheduler and loop, all random numbers drawn from the global states."""

    def __init__(self, model: str, optimizer: str, scheduler: str = "step") -> None:
        torch.manual_seed(0)
        random.seed(0)
        numpy.random.seed(0)
        self.model = Table() if model == "table" else MODELS[model]()
        params = list(self.model.parameters())
        # Aliases of one storage are a defect of a setup, but one that must be restored, too.
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.02 if "tensor" not in optimizer else 0.01}]
        if len(params) == 1:
            groups = groups[:1]
        if "tensor" in optimizer:
            groups[1].pop("lr")
        maker = {**OPTIMIZERS, **SPECIAL, "sparse-adam": lambda p: torch.optim.SparseAdam(p, lr=0.1)}[optimizer]
        self.optimizer = maker(groups)
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.closure = optimizer in SPECIAL
        self.count = 0

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(7, 6), torch.randn(7, 1)

    def loss(self) -> torch.Tensor:
        x, y = self.batch()
        return nn.functional.mse_loss(self.model(x), y)

    def gradients(self) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=random.random() < 0.8)
        loss = self.loss()
        loss.backward()
        return loss.detach()

    def step(self) -> float:
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        loss = self.gradients()
        self.optimizer.step(self.gradients) if self.closure else self.optimizer.step()
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(loss)
        else:
            self.scheduler.step()
        return float(loss)
