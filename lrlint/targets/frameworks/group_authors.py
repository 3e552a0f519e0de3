"""Which library wrote the parameter groups of an optimizer: transformers' Trainer, PEFT's LoRA+, timm ...

What is odd about such groups (an empty one, two alike) is nothing that the user wrote. It is known from the call that
was recorded, else from the groups themselves, which are compared with what the library would write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from torch import nn

#: Libraries that write groups for their users, by the first part of the module's name.
_LIBRARIES = ("transformers", "peft", "timm", "trl", "axolotl", "composer")


def caller_library(frame: FrameType | None, optimizer: Any) -> str:
    """The library whose code called an optimizer's constructor; "" for the user's own, and for any other."""
    while frame is not None and frame.f_locals.get("self") is optimizer:  # constructors of derived classes
        frame = frame.f_back
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] if name.startswith(tuple(f"{library}." for library in _LIBRARIES)) else ""


def author(optimizer: Any, models: Iterable[nn.Module], owner: Any = None) -> str:
    """The library that would have written these very groups; "" where none would. ``owner`` may be a Trainer."""
    with contextlib.suppress(Exception):  # a question about other people's objects
        groups = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
        if hasattr(owner, "get_decay_parameter_names") and groups == _of_trainer(owner):
            return "transformers"
        for model in models:
            if hasattr(model, "peft_config") and groups == _of_lora_plus(model, optimizer.param_groups):
                return "peft"
    return ""


def _of_trainer(trainer: Any) -> list[set[int]]:
    """``Trainer.create_optimizer`` of transformers: what decays, and what does not."""
    decays = set(trainer.get_decay_parameter_names(trainer.model))
    live = [(name, p) for name, p in trainer.model.named_parameters() if p.requires_grad]
    return [{id(p) for name, p in live if (name in decays) is decayed} for decayed in (True, False)]


def _of_lora_plus(model: nn.Module, groups: list[Mapping[str, Any]]) -> list[set[int]]:
    """``peft.optimizers.create_loraplus_optimizer``: A, embeddings, B, and B without decay."""
    quarters: list[set[int]] = [set(), set(), set(), set()]
    embeddings = {id(p) for p in groups[1]["params"]} if len(groups) == len(quarters) else set()
    spared = {id(p) for p in groups[-1]["params"]}
    for name, p in model.named_parameters():
        if p.requires_grad:
            fast = "lora_B" in name or p.ndim == 1
            quarters[1 if id(p) in embeddings else (3 if id(p) in spared else 2) if fast else 0].add(id(p))
    return quarters if groups[-1].get("weight_decay") == 0.0 else []
