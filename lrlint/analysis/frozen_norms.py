"""Batch norms that keep their statistics moving in a part of the model that is frozen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lrlint.text.module_names import is_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrlint.facts import NormLayer, Setup

_FROZEN_CLASS = re.compile("frozen", re.IGNORECASE)
#: Names that loops over modules give to each of them.
_ANY_MODULE = re.compile(r"m|mod|module|child|layer|block|bn|norm|n|l|c")


def updating_norms(setup: Setup, frozen: float) -> list[list[NormLayer]]:
    """Norms without a trainable parameter that update their statistics in a part of which this share is frozen.

    Together are those of one model whose parts are copies (a teacher), or are none. Left out are models in which nothing
    trains, norms that cannot move, and those that the training loop puts back into evaluation mode.
    """
    sizes = _sizes(setup)
    back = [call.receiver for call in setup.source.put_back()] if setup.source else []
    found: dict[tuple[str, bool], list[NormLayer]] = {}
    for norm in setup.norms:
        if not _moves(norm) or any(p is not None and p.requires_grad for p in (norm.weight, norm.bias)):
            continue
        root, part = root_of(setup, norm.path), part_of(setup, norm.path)
        total, trained = sizes.get(part, (0, 0))
        if total and total - trained >= frozen * total and sizes[root][1] and not _is_put_back(back, norm.path):
            found.setdefault((root, any(map(is_copy, part.split(".")))), []).append(norm)
    return list(found.values())


def _moves(norm: NormLayer) -> bool:
    """Whether it is a batch norm whose running statistics change in training."""
    kept = norm.kind == "batch" and norm.tracks_statistics and norm.trains_statistics and norm.momentum != 0
    return kept and not _FROZEN_CLASS.search(norm.class_name)


def _sizes(setup: Setup) -> dict[str, tuple[int, int]]:
    """Elements, and trainable elements, of each model and of each of its parts."""
    sizes: dict[str, tuple[int, int]] = {}
    for parameter in setup.parameters:
        if parameter.origin == "model":
            for part in {part_of(setup, parameter.module), root_of(setup, parameter.module)}:
                total, trained = sizes.get(part, (0, 0))
                sizes[part] = total + parameter.numel, trained + parameter.numel * parameter.requires_grad
    return sizes


def _is_put_back(receivers: Sequence[str], path: str) -> bool:
    """Whether the training loop puts the layer back into evaluation mode: `model.train()`, then `model.backbone.eval()`."""
    parts = path.split(".")
    return any(_ANY_MODULE.fullmatch(receiver) or receiver.rsplit(".", 1)[-1] in parts for receiver in receivers)


def root_of(setup: Setup, path: str) -> str:
    """The prefix of the model that the path belongs to; "" where there is one model."""
    lead = path.split(".", 1)[0]
    return lead if any(model.prefix == f"{lead}." for model in setup.models) else ""


def part_of(setup: Setup, path: str) -> str:
    """The top-level child of the model that holds the path."""
    root = root_of(setup, path)
    rest = path[len(root) :].lstrip(".").split(".")[0]
    return f"{root}.{rest}".strip(".")
