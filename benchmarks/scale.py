"""How well `lrlint scale` names the layer that breaks transfer: ``python -m benchmarks.scale [--quick]``.

Sound setups in the maximal update parametrisation (an MLP and a transformer by hand, with SGD, Adam and Muon, in the
conventions that people use), and 60 with one wrong exponent in one layer's initialisation, factor or rate. The halves are
printed apart; neither is blind, the judgement was written with both in sight. A case counts as found where the planted layer
is the first that is named, and
`alone` where no other is.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

import lrlint

BASE = 64
WIDTHS = (64, 128, 256)
INPUTS, CLASSES, TOKENS, LENGTH, HEAD = 20, 10, 32, 12, 16


class Plant(NamedTuple):
    """One wrong exponent: of a layer's ``init``, ``multiplier`` or ``rate``."""

    layer: str
    what: str
    exponent: float


class Scaled(nn.Module):
    """A linear layer with a standard deviation and a factor of its own."""

    def __init__(self, fan_in: int, fan_out: int, std: float, factor: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) * std)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight) * self.factor


class MLP(nn.Module):
    """``convention``: of the readout: ``small`` (its weights), ``behind``, ``front`` (a factor there), ``zero``."""

    def __init__(self, width: int, convention: str = "small") -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"first": Scaled(INPUTS, width, 1 / math.sqrt(INPUTS))})
        for name in ("second", "third"):
            self.inner[name] = Scaled(width, width, math.sqrt(2 / width))
        std = {"small": 4 / width, "zero": 0.0}.get(convention, 4 / BASE)  # beside a factor of BASE / width
        self.readout = Scaled(width, CLASSES, std)
        self.front = BASE / width if convention == "front" else 1.0
        self.behind = BASE / width if convention == "behind" else 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.inner.values():
            x = functional.relu(layer(x))
        return self.readout(x * self.front) * self.behind


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, Scaled(width, width, 1 / math.sqrt(width)))
        self.up = Scaled(width, 2 * width, 1 / math.sqrt(width))
        self.down = Scaled(2 * width, width, 1 / math.sqrt(2 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        seen = self.norm1(x)
        q, k, v = (
            layer(seen).view(batch, length, -1, HEAD).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / HEAD)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """``convention`` as of `MLP`; ``tied``: readout and table are one, with a factor in front of the readout."""

    def __init__(self, width: int, convention: str = "small") -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(TOKENS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.norm = nn.LayerNorm(width)
        self.readout = Scaled(width, TOKENS, {"small": 4 / width, "zero": 0.0}.get(convention, 0.5))
        self.front = BASE / width / 4 if convention in ("front", "tied") else 1.0
        if convention == "tied":
            self.readout.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table(x) + self.places(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x) * self.front)


class Muon(torch.optim.Optimizer):
    """Orthogonal updates for matrices (Newton-Schulz), scaled by the square root of rows over columns (Bernstein 2024)."""

    def __init__(self, params: Any, lr: float = 0.02) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.9})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.mul_(group["momentum"]).add_(p.grad)
                u, _, v = torch.linalg.svd(momentum, full_matrices=False)
                p.add_(u @ v, alpha=-group["lr"] * math.sqrt(p.shape[0] / p.shape[1]))


def rate(
    name: str, weight: torch.Tensor, optimizer: str, grows: tuple[bool, bool], times: float, convention: str
) -> float:
    """What table 3 of arXiv 2203.03466 asks; ``grows``: (fan-in, fan-out), ``times``: width over the base width."""
    inward, outward = grows
    scaled = (
        convention != "small" and convention != "zero" and inward and not outward
    )  # a factor stands beside the readout
    if optimizer == "muon":
        return 0.05
    if optimizer == "sgd":
        return 0.05 * (times if scaled or (outward and not inward) else 1.0 if outward else 1 / times)
    return 2e-3 * (1.0 if not inward or scaled else 1 / times)


def setup(model: nn.Module, width: int, optimizer: str, convention: str, plant: Plant | None) -> dict[str, Any]:
    times = width / BASE
    groups = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or (convention == "tied" and name == "readout"):
            continue
        hidden = isinstance(module, Scaled)
        grows = (hidden and name != "inner.first", name != "readout")
        lr = rate(name, weight, optimizer, grows, times, convention)
        if plant is not None and plant.layer == name:
            factor = times**plant.exponent
            if plant.what == "rate":
                lr *= factor
            elif plant.what == "init":
                weight.data *= factor
            elif isinstance(module, Scaled):
                module.factor *= factor
        groups.append({"params": list(module.parameters(recurse=False)), "lr": lr})
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, MLP):
        batch = torch.randn(32, INPUTS, generator=generator), torch.randint(0, CLASSES, (32,), generator=generator)
    else:
        batch = tuple(torch.randint(0, TOKENS, (8, LENGTH), generator=generator) for _ in range(2))
    return {
        "model": model, "batches": [batch], "loss_fn": loss, "transfers": True,
        "optimizer": made(optimizer, groups),
    }  # fmt: skip


def made(optimizer: str, groups: list[dict[str, Any]]) -> Any:
    if optimizer != "muon":
        return torch.optim.SGD(groups, lr=0.1) if optimizer == "sgd" else torch.optim.AdamW(groups, weight_decay=0.0)
    return Muon(groups)


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    output = model(batch[0])
    return functional.cross_entropy(output.flatten(0, -2), batch[1].flatten())


Case = tuple[str, str, str]  # model, optimizer, convention
SOUND: tuple[Case, ...] = (
    *(
        ("mlp", optimizer, convention)
        for optimizer in ("adam", "sgd")
        for convention in ("small", "behind", "front", "zero")
    ),
    ("mlp", "muon", "small"),
    *(("transformer", "adam", convention) for convention in ("small", "front", "zero", "tied")),
)
LAYERS = {
    "mlp": ("inner.first", "inner.second", "inner.third", "readout"),
    "transformer": (
        "table", "blocks.0.q_proj", "blocks.0.k_proj", "blocks.0.v_proj", "blocks.0.o_proj", "blocks.0.up",
        "blocks.0.down", "blocks.1.v_proj", "blocks.1.o_proj", "blocks.1.up", "blocks.1.down", "readout",
    ),
}  # fmt: skip


def factory(case: Case, plant: Plant | None = None) -> Callable[..., dict[str, Any]]:
    kind, optimizer, convention = case

    def build(width: int = BASE) -> dict[str, Any]:
        model = (MLP if kind == "mlp" else Transformer)(width, convention)
        return setup(model, width, optimizer, convention, plant)

    return build


def planted(count: int = 60) -> Iterator[tuple[Case, Plant]]:
    """``count`` wrong exponents, by chance; a readout that only begins smaller breaks nothing and is left out."""
    chance = random.Random(20261201)
    cases = (
        ("mlp", "adam", "small"),
        ("mlp", "sgd", "small"),
        ("mlp", "adam", "front"),
        ("transformer", "adam", "small"),
    )
    seen = set()
    while len(seen) < count:
        case = cases[len(seen) % len(cases)]
        plant = Plant(
            chance.choice(LAYERS[case[0]]),
            chance.choice(("init", "multiplier", "rate")),
            chance.choice((-1, -0.5, 0.5, 1)),
        )
        harmless = plant.layer == "readout" and plant.what == "init" and plant.exponent < 0
        if harmless or (plant.layer == "table" and plant.what == "multiplier") or (case, plant) in seen:
            continue
        seen.add((case, plant))
        yield case, plant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="every tenth planted case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sound-seeds", type=int, default=1, help="seeds that the sound setups are built with")
    options = parser.parse_args()
    began = time.monotonic()
    alarms = 0
    for case in SOUND:
        for seed in range(options.seed, options.seed + options.sound_seeds):
            result = lrlint.scale(factory(case), WIDTHS, seed=seed)
            alarms += bool(result.findings)
            print(f"sound {' '.join(case):28} {'FALSE ALARM ' + names(result) if result.findings else 'ok'}")
    tally = {0: [0, 0, 0], 1: [0, 0, 0]}
    for number, (case, plant) in enumerate(planted()):
        if options.quick and number % 10:
            continue
        result = lrlint.scale(factory(case, plant), WIDTHS, seed=options.seed)
        found = [layer.module for layer in result.faults]
        half = tally[number % 2]
        half[0] += 1
        half[1] += found[:1] == [plant.layer]
        half[2] += found == [plant.layer]
        if found != [plant.layer]:
            print(
                f"{number:2} {' '.join(case):24} {plant.layer:16} {plant.what:10} {plant.exponent:+}: {names(result)}"
            )
    for half, name in ((0, "limits set on"), (1, "other half")):
        count, first, alone = tally[half]
        print(f"{name:14} {count} planted, {first} named ({first / count:.0%}), {alone} alone")
    print(f"sound: {len(SOUND) * options.sound_seeds}, false alarms {alarms}; {time.monotonic() - began:.0f} s")


def names(result: Any) -> str:
    return ", ".join(f"{layer.module} ({layer.fault} {layer.off:+.2f})" for layer in result.faults) or "nothing"


if __name__ == "__main__":
    main()
