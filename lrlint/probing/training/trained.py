"""Which groups hold weights that were trained before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lrlint.stability.statistics import Key


def trained_groups(models: Sequence[nn.Module], optimizers: Sequence[Any], keys: Sequence[Key]) -> frozenset[int]:
    """Positions, among ``keys``, of groups most of whose weights show that they were trained.

    A parameter counts where its optimizer has state for it, where the model was loaded under a name (transformers), or
    where a normalisation layer in the same child of the model is not as it is initialised: a scale that is not constant,
    or batch statistics that have counted batches. A network without any of these shows nothing.
    """
    trained = {id(p) for model in models for p in _trained(model)}
    found = set()
    for position, (o, g) in enumerate(keys):
        optimizer = optimizers[o]
        members = [p for p in optimizer.param_groups[g]["params"] if p.requires_grad]
        size = sum(p.numel() for p in members)
        known = sum(p.numel() for p in members if id(p) in trained or optimizer.state.get(p))
        if size and 2 * known > size:
            found.add(position)
    return frozenset(found)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    if getattr(getattr(model, "config", None), "_name_or_path", "") and hasattr(model, "from_pretrained"):
        return list(model.parameters())
    children = [child for child in model.children()]
    marked = [child for child in children if any(map(_changed_norm, child.modules()))]
    return [p for child in marked for p in child.parameters()]


def _changed_norm(module: nn.Module) -> bool:
    """A normalisation layer that training has left its mark on."""
    if "norm" not in type(module).__name__.lower():
        return False
    counted = getattr(module, "num_batches_tracked", None)
    if isinstance(counted, torch.Tensor) and counted.numel() == 1 and not counted.is_meta and int(counted) > 0:
        return True
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 1 or weight.numel() < 2 or weight.is_meta:
        return False
    return bool((weight.detach() != weight.detach()[0]).any())
