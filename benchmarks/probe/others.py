"""Models of further kinds, on which no limit was set: the probe is held against them as well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.probe.nets import TOKENS, Builder, Net, Positions, States, Transpose


class Skip(nn.Module):
    """x + f(x)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Gated(nn.Module):
    """SwiGLU (https://arxiv.org/abs/2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Heads(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(width, 4, bias=False, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        return self.mix(x, x, x, attn_mask=mask, need_weights=False)[0]  # type: ignore[no-any-return]


class Pool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)


def _post_norm(w: int, depth: int, out: int) -> Net:
    """The first transformer's order: the norm after the sum."""
    embed = nn.Sequential(nn.Unfold(2, stride=2), Transpose(), nn.Linear(4, w), Positions(16, w))
    layers = [nn.TransformerEncoderLayer(w, 4, 2 * w, 0.1, batch_first=True) for _ in range(depth)]
    return Net(embed, nn.Sequential(*layers, Transpose(), Pool()), nn.Linear(w, out))


def _llama(w: int, depth: int, out: int) -> Net:
    """A decoder with RMSNorm and gated layers."""
    blocks: list[nn.Module] = []
    for _ in range(depth):
        blocks += [Skip(nn.RMSNorm(w), Heads(w)), Skip(nn.RMSNorm(w), Gated(w))]
    embed = nn.Sequential(nn.Embedding(TOKENS, w), Positions(12, w))
    return Net(embed, nn.Sequential(*blocks, nn.RMSNorm(w)), nn.Linear(w, TOKENS, bias=False))


def _mixer(w: int, depth: int, out: int) -> Net:
    """MLP-Mixer (https://arxiv.org/abs/2105.01601)."""
    blocks: list[nn.Module] = []
    for _ in range(depth):
        across = [Transpose(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16), Transpose()]
        blocks += [Skip(nn.LayerNorm(w), *across)]
        blocks += [Skip(nn.LayerNorm(w), nn.Linear(w, 2 * w), nn.GELU(), nn.Linear(2 * w, w))]
    embed = nn.Sequential(nn.Unfold(2, stride=2), Transpose(), nn.Linear(4, w))
    return Net(embed, nn.Sequential(*blocks, nn.LayerNorm(w), Transpose(), Pool()), nn.Linear(w, out))


def _resnet(w: int, depth: int, out: int) -> Net:
    """Residual blocks with group norm."""

    def block() -> Skip:
        convolutions = [nn.Conv2d(w, w, 3, padding=1, bias=False) for _ in range(2)]
        return Skip(convolutions[0], nn.GroupNorm(4, w), nn.ReLU(), convolutions[1], nn.GroupNorm(4, w))

    embed = nn.Sequential(nn.Conv2d(1, w, 3, stride=2, padding=1), nn.GroupNorm(4, w), nn.ReLU())
    return Net(embed, nn.Sequential(*(block() for _ in range(depth)), Pool()), nn.Linear(w, out))


def _plain_cnn(w: int, depth: int, out: int) -> Net:
    """Convolutions without a norm, and a hidden linear layer."""
    body = nn.Sequential(
        *(nn.Conv2d(w // 2, w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * w, w), nn.ReLU(), nn.Dropout(0.2)),
    )
    return Net(nn.Sequential(nn.Conv2d(1, w // 2, 3, padding=1), nn.ReLU()), body, nn.Linear(w, out))


def _temporal(w: int, depth: int, out: int) -> Net:
    """One-dimensional convolutions over a sequence, with skips."""
    blocks = [Skip(nn.Conv1d(w, w, 3, padding=1), nn.BatchNorm1d(w), nn.GELU()) for _ in range(depth)]
    return Net(nn.Linear(8, w), nn.Sequential(Transpose(), *blocks, Pool()), nn.Linear(w, out))


def _tanh(w: int, depth: int, out: int) -> Net:
    layers = [m for _ in range(depth) for m in (nn.Linear(w, w), nn.Tanh())]
    return Net(nn.Sequential(nn.Linear(32, w), nn.Tanh()), nn.Sequential(*layers), nn.Linear(w, out))


def _gru(w: int, depth: int, out: int) -> Net:
    return Net(nn.Linear(8, w), States(nn.GRU(w, w, 2, batch_first=True), last=True), nn.Linear(w, out))


def _lstm_text(w: int, depth: int, out: int) -> Net:
    return Net(nn.Embedding(TOKENS, w), States(nn.LSTM(w, w, batch_first=True), last=False), nn.Linear(w, TOKENS))


#: Kind → (builder, form of the data), as `benchmarks.probe.nets.KINDS`.
OTHERS: dict[str, tuple[Builder, str]] = {
    "post-norm": (_post_norm, "image"),
    "llama": (_llama, "tokens"),
    "mixer": (_mixer, "image"),
    "resnet-gn": (_resnet, "image"),
    "cnn": (_plain_cnn, "image"),
    "temporal": (_temporal, "sequence"),
    "tanh": (_tanh, "vector"),
    "gru": (_gru, "sequence"),
    "lstm-text": (_lstm_text, "tokens"),
}
