"""What the speed benchmark checks: setups as factories, in torch alone, so that no other import hides a cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

STEPS = 10_000


class Block(nn.Module):
    """A Llama block by names and shapes: grouped queries, a gated feed-forward, two norms, no biases."""

    def __init__(self, width: int, inner: int, keys: int) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q_proj, self.o_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj, self.v_proj = nn.Linear(width, keys, bias=False), nn.Linear(width, keys, bias=False)
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.input_layernorm(x)
        q, k, v = (
            project(y).unflatten(-1, (-1, 64)).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o_proj(mixed.transpose(1, 2).flatten(2))
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(nn.functional.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    def __init__(self, layers: int, width: int, inner: int, keys: int, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width, inner, keys) for _ in range(layers))
        self.norm, self.lm_head = nn.RMSNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def _setup(model: nn.Module, steps: int = STEPS, **more: Any) -> dict[str, Any]:
    """Matrices decay, vectors do not, a cosine over the run."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=3e-4, betas=(0.9, 0.95), foreach=False)
    scheduler = CosineAnnealingLR(optimizer, steps)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": steps, **more}


def _tokens(device: str) -> tuple[torch.Tensor, ...]:
    return (torch.zeros(1, 16, dtype=torch.long, device=device),)


def llama_1b_on_meta() -> dict[str, Any]:
    """Llama 3.2 1B: 16 layers of width 2048."""
    with torch.device("meta"):
        return _setup(Llama(16, 2048, 8192, 512, 128_256), example_inputs=_tokens("meta"))


def llama_70b_on_meta() -> dict[str, Any]:
    """Llama 3 70B: 80 layers of width 8192."""
    with torch.device("meta"):
        return _setup(Llama(80, 8192, 28_672, 1024, 128_256), example_inputs=_tokens("meta"))


def llama_60m() -> dict[str, Any]:
    """A small Llama with real values."""
    return _setup(Llama(8, 512, 2048, 128, 32_000), example_inputs=_tokens("cpu"))


def _crowd(tensors: int) -> dict[str, Any]:
    """Dense layers, four to a block."""
    with torch.device("meta"):
        blocks = nn.ModuleList(nn.ModuleList(nn.Linear(1, 1) for _ in range(4)) for _ in range(tensors // 8))
    return _setup(nn.ModuleDict({"blocks": blocks}))


def tensors_1k() -> dict[str, Any]:
    return _crowd(1_000)


def tensors_10k() -> dict[str, Any]:
    return _crowd(10_000)


def tensors_100k() -> dict[str, Any]:
    return _crowd(100_000)


def million_steps() -> dict[str, Any]:
    return _setup(Llama(2, 64, 256, 64, 1_000), steps=1_000_000)


def groups_500() -> dict[str, Any]:
    """A group for every tensor, as layer-wise rates make them."""
    model = nn.ModuleList(nn.Linear(8, 8) for _ in range(250))
    optimizer = AdamW([{"params": [p], "lr": 1e-4} for p in model.parameters()], foreach=False)
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": STEPS}
