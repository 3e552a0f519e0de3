"""Pairs of a faulty and a fixed setup, written from public reports in our words: what a linter of setups should find.

A pair is one function of ``fault``; the decorator says, before anything is run, where the report stands, which finding
is right (a code, and a fragment of the parameter or group it must name), or why the fault is out of scope, and how the
harm is measured when both are trained. `python -m benchmarks.faults` prints the table, `--confirm` trains every pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Setup = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """``codes``: any of these is right; empty: out of scope, for the reason ``beyond``. ``names``: what the finding must
    mention. ``harm``: a number after training that is larger for the faulty one, by ``factor`` at least."""

    name: str
    module: str
    kind: str
    source: str
    date: str
    codes: tuple[str, ...]
    names: str
    beyond: str
    harm: Callable[[Setup], float] | None
    factor: float
    steps: int
    make: Callable[[bool], Setup]


PAIRS: dict[str, Pair] = {}


def pair(
    kind: str,
    source: str,
    date: str,
    *codes: str,
    names: str = "",
    beyond: str = "",
    harm: Callable[[Setup], float] | None = None,
    factor: float = 1.2,
    steps: int = 200,
) -> Callable[[Callable[[bool], Setup]], Callable[[bool], Setup]]:
    """Register a pair; its module gets the targets ``<name>_bad`` and ``<name>_fixed``."""

    def register(make: Callable[[bool], Setup]) -> Callable[[bool], Setup]:
        name, scope = make.__name__, make.__globals__
        PAIRS[name] = Pair(name, make.__module__, kind, source, date, codes, names, beyond, harm, factor, steps, make)
        for suffix, fault in (("bad", True), ("fixed", False)):

            def target(fault: bool = fault) -> Setup:
                torch.manual_seed(0)
                made = make(fault)
                return {key: value for key, value in made.items() if key not in ("inner", "start")}

            target.__name__ = f"{name}_{suffix}"
            scope[target.__name__] = target
        return make

    return register


class Net(nn.Module):
    """Embeds 16 numbers, two blocks with layer norms, and a head for 4."""

    def __init__(self, width: int = 32, blocks: int = 2, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.stem = nn.Linear(16, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"fc": nn.Linear(width, width), "norm": norm(width)}) for _ in range(blocks)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block["fc"](block["norm"](x)).relu()
        return self.head(x)


def data(count: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and what a fixed random network makes of them."""
    source = torch.Generator().manual_seed(7)
    x = torch.randn(count, 16, generator=source)
    first, second = torch.randn(16, 32, generator=source), torch.randn(32, 4, generator=source)
    return x, (x @ first / 4).tanh() @ second / 5.6


def matrices_and_rest(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    own = list(model.parameters())
    return [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
