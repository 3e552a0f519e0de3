"""Which groups hold weights that were trained before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lrlint.probing.training.statistics import Key


def trained_groups(models: Sequence[nn.Module], optimizers: Sequence[Any], keys: Sequence[Key]) -> dict[int, bool]:
    """By position among ``keys``: whether most of the group's weights were trained, or are fresh, where that shows.

    A parameter was trained where its optimizer has state for it, where the model was loaded under a name (transformers),
    or where a normalisation layer in the same child of the model is not as it is initialised: a scale that is not
    constant, or batch statistics that have counted batches. It is fresh where all such layers are. A network without any
    shows neither.
    """
    known: dict[int, bool] = {}
    for model in models:
        known.update(_known(model))
    answers = {}
    for position, (o, g) in enumerate(keys):
        optimizer = optimizers[o]
        members = [p for p in optimizer.param_groups[g]["params"] if p.requires_grad]
        shown = [(p.numel(), True if optimizer.state.get(p) else known.get(id(p))) for p in members]
        size = sum(numel for numel, _ in shown)
        for answer in (True, False):
            if size and 2 * sum(numel for numel, trained in shown if trained is answer) > size:
                answers[position] = answer
    return answers


def _known(model: nn.Module) -> dict[int, bool]:
    """By identity of the parameter."""
    if getattr(getattr(model, "config", None), "_name_or_path", "") and hasattr(model, "from_pretrained"):
        return {id(p): True for p in model.parameters()}
    known: dict[int, bool] = {}
    for child in model.children():
        marks = [mark for module in child.modules() if (mark := _changed(module)) is not None]
        if marks:
            known.update(dict.fromkeys(map(id, child.parameters()), any(marks)))
    return known


def _changed(module: nn.Module) -> bool | None:
    """Whether training has left its mark on a normalisation layer; None for other modules."""
    weight = getattr(module, "weight", None)
    if "norm" not in type(module).__name__.lower() or not isinstance(weight, torch.Tensor):
        return None
    if weight.ndim != 1 or weight.numel() < 2 or weight.is_meta:
        return None
    counted = getattr(module, "num_batches_tracked", None)
    if isinstance(counted, torch.Tensor) and counted.numel() == 1 and int(counted) > 0:
        return True
    return bool((weight.detach() != weight.detach()[0]).any())
