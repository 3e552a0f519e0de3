"""How training code cuts a model into parameter groups: the groupings that are in use."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

Groups = list[dict[str, Any]]
DECAY = 0.1


def decay_by(model: nn.Module, decays: Callable[[str, nn.Parameter], bool], weight_decay: float = DECAY) -> Groups:
    """Two groups of what is trainable: decayed where the condition holds, exempt elsewhere."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]


def by_ndim(model: nn.Module, weight_decay: float = DECAY) -> Groups:
    """nanoGPT, timm, MAE: matrices decay, vectors do not."""
    return decay_by(model, lambda name, parameter: parameter.ndim >= 2, weight_decay)


def trainer(model: nn.Module) -> Groups:
    """The grouping of `transformers.Trainer.create_optimizer`, by the library's own function."""
    from transformers import Trainer

    decayed = set(Trainer.get_decay_parameter_names(None, model))
    return decay_by(model, lambda name, parameter: name in decayed)


def classic(model: nn.Module) -> Groups:
    """The list that the examples of transformers were copied with: it knows the names of BERT."""
    return decay_by(model, lambda name, parameter: not any(part in name for part in ("bias", "LayerNorm.weight")))


def single(model: nn.Module) -> Groups:
    """`AdamW(model.parameters())`: everything decays."""
    return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": DECAY}]


def layerwise(model: nn.Module, decay: float = 0.75, lr: float = 1e-4) -> Groups:
    """ELECTRA, BEiT, MAE: rates fall from the head to the stem by a factor per block, decay by number of dimensions.

    For models with one stack of blocks.
    """
    blocks = {name: _block(name) for name, _ in model.named_parameters()}
    depth = max(block for block in blocks.values() if block is not None) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rung = _rung(name, blocks[name], depth)
        decays = parameter.ndim >= 2
        options = {"params": [], "lr": lr * decay ** (depth + 1 - rung), "weight_decay": DECAY if decays else 0.0}
        groups.setdefault((rung, decays), options)["params"].append(parameter)
    return list(groups.values())


def _block(name: str) -> int | None:
    found = re.search(r"\.(?:layers?|h|blocks?)\.(\d+)\.", name)
    return int(found[1]) if found else None


def _rung(name: str, block: int | None, depth: int) -> int:
    """0 for the stem, 1 … depth for the blocks, depth + 1 for what comes after them."""
    if block is not None:
        return block + 1
    return 0 if re.search(r"embed|wte|wpe|patch", name) else depth + 1


GROUPINGS: dict[str, Callable[[nn.Module], Groups]] = {
    grouping.__name__: grouping for grouping in (by_ndim, trainer, classic, single, layerwise)
}
