"""Small networks with the module names of well-known training code, for the recipes to optimise.

Only names, kinds and shapes matter to a linter; widths are toys. All of them run forward.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 32
VOCABULARY = 64


class Attention(nn.Module):
    """Self-attention with one fused projection, named as the caller asks."""

    def __init__(self, width: int, fused: str = "qkv", out: str = "proj", bias: bool = True) -> None:
        super().__init__()
        self.names = (fused, out)
        self.add_module(fused, nn.Linear(width, 3 * width, bias))
        self.add_module(out, nn.Linear(width, width, bias))

    def forward(self, x: Tensor) -> Tensor:
        fused, out = (self.get_submodule(name) for name in self.names)
        q, k, v = fused(x).chunk(3, -1)
        return out(F.scaled_dot_product_attention(q, k, v))


class MLP(nn.Module):
    def __init__(self, width: int, names: tuple[str, str] = ("fc1", "fc2"), bias: bool = True) -> None:
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Linear(width, 2 * width, bias))
        self.add_module(names[1], nn.Linear(2 * width, width, bias))

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.get_submodule(name) for name in self.names)
        return second(F.gelu(first(x)))


class GPTBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = Attention(WIDTH, "c_attn", "c_proj")
        self.mlp = MLP(WIDTH, ("c_fc", "c_proj"))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """nanoGPT and minGPT: `transformer.h.0.ln_1`, and a head that may be tied to `transformer.wte`."""

    def __init__(self, layers: int = 3, tied: bool = True) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(VOCABULARY, WIDTH),
                "wpe": nn.Embedding(16, WIDTH),
                "h": nn.ModuleList(GPTBlock() for _ in range(layers)),
                "ln_f": nn.LayerNorm(WIDTH),
            }
        )
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if tied:
            self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(tokens.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


class LlamaBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.attention = Attention(WIDTH, "wqkv", "wo", bias=False)
        self.feed_forward = MLP(WIDTH, ("w1", "w2"), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Llama(nn.Module):
    """torchtitan and Meta's code: `layers.0.attention_norm`, `tok_embeddings`, `norm`, `output`; no biases."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(LlamaBlock() for _ in range(layers))
        self.norm = nn.RMSNorm(WIDTH)
        self.output = nn.Linear(WIDTH, VOCABULARY, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


class PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, 8, 8)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(1e-5 * torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class ViTBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(WIDTH), Attention(WIDTH), LayerScale()
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(WIDTH), MLP(WIDTH), LayerScale()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """timm, DeiT, MAE, DINO: `blocks.0.norm1`, `patch_embed.proj`, `cls_token`, `pos_embed`, `head`."""

    def __init__(self, layers: int = 3, declares: bool = True) -> None:
        super().__init__()
        self.declares = declares
        self.patch_embed = PatchEmbed()
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, WIDTH))
        self.blocks = nn.ModuleList(ViTBlock() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"} if self.declares else set()

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class BasicBlock(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer)
        self.downsample = nn.Sequential(nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inside + self.downsample(x))


class ResNet(nn.Module):
    """torchvision: `layer1.0.conv1`, `layer1.0.bn1`, `fc`."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        widths = (8, 8, 16, 16, 32)
        for number in range(1, 5):
            self.add_module(f"layer{number}", nn.Sequential(BasicBlock(widths[number - 1], widths[number])))
        self.fc = nn.Linear(32, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


class FrozenBatchNorm2d(nn.Module):
    """torchvision's: everything is a buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, start in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class Backbone(nn.Module):
    """A ResNet body with frozen norms."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), FrozenBatchNorm2d(16), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)


class DETR(nn.Module):
    """DETR and its deformable descendant, which has `sampling_offsets` and `reference_points`."""

    def __init__(self, deformable: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.input_proj = nn.Conv2d(16, WIDTH, 1)
        self.transformer = nn.Transformer(WIDTH, 4, 2, 2, 2 * WIDTH, batch_first=True)
        self.query_embed = nn.Embedding(5, WIDTH)
        self.class_embed = nn.Linear(WIDTH, 11)
        self.bbox_embed = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))
        if deformable:
            self.sampling_offsets = nn.Linear(WIDTH, WIDTH)
            self.reference_points = nn.Linear(WIDTH, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        memory = self.input_proj(self.backbone(image)).flatten(2).transpose(1, 2)
        queries = self.query_embed.weight.expand(len(image), -1, -1)
        x = self.transformer(memory, queries)
        if hasattr(self, "sampling_offsets"):
            return self.class_embed(x), self.bbox_embed(x), self.reference_points(self.sampling_offsets(x))
        return self.class_embed(x), self.bbox_embed(x)


class UNetBlock(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.time_emb_proj = nn.Linear(WIDTH, outer)
        self.norm2, self.conv2 = nn.GroupNorm(4, outer), nn.Conv2d(outer, outer, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(time)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(x)))


class UNet(nn.Module):
    """diffusers: `down_blocks.0.norm1` and so on, all group norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, 16, 3, padding=1)
        self.time_embedding = nn.Sequential(nn.Linear(1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.down_blocks = nn.ModuleList([UNetBlock(16, 16), UNetBlock(16, 32)])
        self.up_blocks = nn.ModuleList([UNetBlock(32, 16), UNetBlock(16, 16)])
        self.conv_norm_out, self.conv_out = nn.GroupNorm(4, 16), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, latents: Tensor, time: Tensor) -> Tensor:
        embedded, x = self.time_embedding(time), self.conv_in(latents)
        for block in (*self.down_blocks, *self.up_blocks):
            x = block(x, embedded)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class SSM(nn.Module):
    """An S4 or Mamba layer: a diagonal state space with the published parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, 5).float()).repeat(WIDTH, 1))
        self.D = nn.Parameter(torch.ones(WIDTH))
        self.dt_bias = nn.Parameter(torch.full((WIDTH,), math.log(1e-2)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_proj(x)
        decay = torch.exp(-torch.exp(self.A_log).mean(1) * F.softplus(self.dt_bias))
        return self.out_proj(torch.cumsum(x * decay, 1) + x * self.D)


class SSMModel(nn.Module):
    """`layers.0.mixer.A_log`, norms before each mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(WIDTH), "mixer": SSM()}) for _ in range(3))
        self.norm_f, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer["mixer"](layer["norm"](x))
        return self.lm_head(self.norm_f(x))


def mlp(*widths: int) -> nn.Sequential:
    """Dense layers with activations between them."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tokens() -> tuple[Tensor, ...]:
    """Example inputs of the language models: (2, 8) token numbers."""
    return (torch.arange(16).reshape(2, 8),)


def image() -> tuple[Tensor, ...]:
    """Example inputs of the vision models: (2, 3, 32, 32) zeros."""
    return (torch.zeros(2, 3, 32, 32),)
