"""Small models of the kinds that people train, and made-up data that they can learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

Batch = tuple[torch.Tensor, torch.Tensor]
CLASSES = 6
TOKENS = 24


class Residual(nn.Module):
    """x + f(x), with a layer norm before f or without any."""

    def __init__(self, width: int, normed: bool) -> None:
        super().__init__()
        norm: list[nn.Module] = [nn.LayerNorm(width)] if normed else []
        self.branch = nn.Sequential(*norm, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Attention(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(0.1))
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, w = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, n, 3, 4, w // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, w))
        return x + self.mlp(self.ln_2(x))


class States(nn.Module):
    """All states of a recurrent layer, or the last."""

    def __init__(self, cells: nn.RNNBase, last: bool) -> None:
        super().__init__()
        self.cells, self.last = cells, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.cells(x)[0]
        return states[:, -1] if self.last else states  # type: ignore[no-any-return]


class Positions(nn.Module):
    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(length, width) * 0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


class Net(nn.Module):
    """``embed``, ``body`` and ``head``."""

    def __init__(self, embed: nn.Module, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.embed, self.body, self.head = embed, body, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(x)))  # type: ignore[no-any-return]


def _mlp(w: int, depth: int, out: int) -> Net:
    layers = [m for _ in range(depth) for m in (nn.ReLU(), nn.Linear(w, w))]
    return Net(nn.Linear(32, w), nn.Sequential(*layers, nn.ReLU()), nn.Linear(w, out))


def _residual(w: int, depth: int, out: int) -> Net:
    return Net(nn.Linear(32, w), nn.Sequential(*(Residual(w, False) for _ in range(depth))), nn.Linear(w, out))


def _normed(w: int, depth: int, out: int) -> Net:
    return Net(nn.Linear(32, w), nn.Sequential(*(Residual(w, True) for _ in range(depth))), nn.Linear(w, out))


def _batch_normed(w: int, depth: int, out: int) -> Net:
    layers = [m for _ in range(depth) for m in (nn.BatchNorm1d(w), nn.ReLU(), nn.Linear(w, w, bias=False))]
    body = nn.Sequential(*layers, nn.BatchNorm1d(w), nn.ReLU())
    return Net(nn.Linear(32, w, bias=False), body, nn.Linear(w, out))


def _cnn(w: int, depth: int, out: int) -> Net:
    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    body = nn.Sequential(
        *block(w // 4, w // 2), nn.MaxPool2d(2), *block(w // 2, w), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return Net(nn.Sequential(nn.Conv2d(1, w // 4, 3, padding=1)), body, nn.Linear(w, out))


def _vit(w: int, depth: int, out: int) -> Net:
    embed = nn.Sequential(nn.Unfold(2, stride=2), Transpose(), nn.Linear(4, w), Positions(16, w))
    return Net(embed, nn.Sequential(Attention(w, False), nn.LayerNorm(w), Mean()), nn.Linear(w, out))


class Transpose(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def _gpt(w: int, depth: int, out: int) -> Net:
    embed = nn.Sequential(nn.Embedding(TOKENS, w), Positions(12, w))
    body = nn.Sequential(Attention(w, True), Attention(w, True), nn.LayerNorm(w))
    return Net(embed, body, nn.Linear(w, TOKENS, bias=False))


def _recurrent(kind: type[nn.RNNBase]) -> Callable[[int, int, int], Net]:
    return lambda w, depth, out: Net(
        nn.Linear(8, w), States(kind(w, w, batch_first=True), last=True), nn.Linear(w, out)
    )


Builder = Callable[[int, int, int], Net]  # of width, depth and outputs

#: Kind → (builder, form of the data).
KINDS: dict[str, tuple[Builder, str]] = {
    "mlp": (_mlp, "vector"),
    "residual": (_residual, "vector"),
    "residual-ln": (_normed, "vector"),
    "mlp-bn": (_batch_normed, "vector"),
    "cnn-bn": (_cnn, "image"),
    "vit": (_vit, "image"),
    "gpt": (_gpt, "tokens"),
    "rnn": (_recurrent(nn.RNN), "sequence"),
    "lstm": (_recurrent(nn.LSTM), "sequence"),
    "fine-tune": (_mlp, "vector"),
}


@dataclass
class Data:
    """Batches by number, the same ones every time. ``outliers``: share of batches with inputs ``far`` times the usual."""

    form: str
    task: str
    size: int
    seed: int
    outliers: float = 0.0
    far: float = 100.0

    def __post_init__(self) -> None:
        self.out = 1 if self.task == "regression" else CLASSES
        g = torch.Generator().manual_seed(self.seed + 11)
        self._first = torch.randn(24, 32, generator=g) * 3 / math.sqrt(32)
        self._second = torch.randn(self.out, 24, generator=g) * 3 / math.sqrt(24)
        self._chain = torch.softmax(3 * torch.randn(TOKENS, TOKENS, generator=g), -1)
        self._templates = torch.randn(CLASSES, 64, generator=g)

    def batch(self, number: int) -> Batch:
        g = torch.Generator().manual_seed(self.seed * 100_003 + number)
        if self.form == "tokens":
            return self._text(g)
        if self.form == "image":
            y = torch.randint(CLASSES, (self.size,), generator=g)
            x = self._templates[y] + 1.5 * torch.randn(self.size, 64, generator=g)
        else:
            x = torch.randn(self.size, 32, generator=g)
            y = self._taught(x, g)
        if self.outliers and torch.rand(1, generator=g).item() < self.outliers:
            x = x * self.far
            y = y * self.far if self.task == "regression" else y
        shape = {"vector": (32,), "sequence": (4, 8), "image": (1, 8, 8)}[self.form]
        return x.view(self.size, *shape), y

    def _taught(self, x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        y = torch.tanh(x @ self._first.T) @ self._second.T
        if self.task == "regression":
            return y + 0.1 * torch.randn(y.shape, generator=g)
        if self.task == "noisy":
            y = y - torch.log(-torch.log(torch.rand(y.shape, generator=g)))
        return y.argmax(-1)

    def _text(self, g: torch.Generator) -> Batch:
        steps = [torch.randint(TOKENS, (self.size,), generator=g)]
        for _ in range(12):
            steps.append(torch.multinomial(self._chain[steps[-1]], 1, generator=g).squeeze(1))
        text = torch.stack(steps, 1)
        return text[:, :-1], text[:, 1:]


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    x, y = batch
    out = model(x)
    if out.shape[-1] == 1:
        return F.mse_loss(out, y)
    return F.cross_entropy(out.flatten(0, -2), y.flatten())


def network(build: Builder, width: int, depth: int, out: int, seed: int, fine_tuned: bool) -> Net:
    """The model as training starts: fresh, or with an embedding and body that learnt another task."""
    torch.manual_seed(seed)
    model = build(width, depth, out)
    if fine_tuned:
        before = Data("vector", "classes", 32, seed + 77)
        teacher = build(width, depth, CLASSES)
        optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
        for k in range(150):
            optimizer.zero_grad()
            loss(teacher, before.batch(k)).backward()
            optimizer.step()
        model.embed.load_state_dict(teacher.embed.state_dict())
        model.body.load_state_dict(teacher.body.state_dict())
    return model


def groups(model: Net, split: str) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Names and parameters of the groups: by part, by decay (matrices or not), by layer, or a single one."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = {
            "single": "all",
            "parts": name.split(".")[0],
            "decay": "decay" if parameter.ndim > 1 else "no_decay",
            "layers": name.rpartition(".")[0],
        }[split]
        found.setdefault(key, []).append(parameter)
    yield from found.items()
