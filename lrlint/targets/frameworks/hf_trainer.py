"""A transformers Trainer: the optimizer and scheduler it creates, and what its arguments declare about the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from lrlint.facts import Note

#: Training arguments that become options of the optimizer's groups.
KEYS = {"learning_rate": "lr", "weight_decay": "weight_decay", "adam_epsilon": "eps", "adam_beta1": "betas"}
_PURE = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_MADE = ("optimizer", "lr_scheduler", "_created_lr_scheduler")


def create(trainer: Any) -> tuple[Any, Any, list[Note]]:
    """(optimizer, scheduler or None, notes) of a transformers Trainer, which is left as it was."""
    steps = total_steps(trainer)
    kept = {name: value for name, value in vars(trainer).items() if name in _MADE}
    try:
        if steps is None:
            trainer.create_optimizer()
        else:
            trainer.create_optimizer_and_scheduler(num_training_steps=steps)
        made = trainer.optimizer, trainer.lr_scheduler
    finally:
        for name in _MADE:
            vars(trainer).pop(name, None)
        vars(trainer).update(kept)
    if steps is None and made[1] is None:
        reason = "the Trainer has neither max_steps nor a training set of known length: no scheduler was created"
        return *made, [Note("total_steps", reason)]
    return *made, []


def total_steps(trainer: Any) -> int | None:
    """The number of optimizer steps of the run, by the Trainer's own rule; None where it cannot be known."""
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    per_epoch = _steps_per_epoch(trainer)
    return None if per_epoch is None else math.ceil(args.num_train_epochs * per_epoch)


def _steps_per_epoch(trainer: Any) -> int | None:
    batches = _length(trainer)
    return None if batches is None else max(math.ceil(batches / trainer.args.gradient_accumulation_steps), 1)


def _length(trainer: Any) -> int | None:
    """Batches per epoch and process. The Trainer's own loader is not made: that would register it with accelerate."""
    try:
        if _overrides(trainer, "get_train_dataloader"):
            batches: int = len(trainer.get_train_dataloader())
            return batches
        samples: int = len(trainer.train_dataset)
    except (TypeError, NotImplementedError, AttributeError):  # none, or one without a length
        return None
    args = trainer.args
    share = args.train_batch_size * max(args.world_size, 1)
    return int(samples // share) if args.dataloader_drop_last else math.ceil(samples / share)


def _overrides(trainer: Any, name: str) -> bool:
    owner = next((base for base in type(trainer).__mro__ if name in vars(base)), None)
    return owner is not None and not owner.__module__.startswith("transformers.")


def declared(trainer: Any, model: Any) -> dict[str, Any]:
    """What a transformers Trainer's arguments declare about the run."""
    args = trainer.args
    mixed = "fp16-mixed" if args.fp16 else "bf16-mixed" if args.bf16 else None
    first = next(iter(model.parameters()), None)
    pure = None if first is None else _PURE.get(first.dtype)
    mode = str(getattr(getattr(args, "parallel_mode", None), "value", ""))
    return {
        "total_steps": total_steps(trainer),
        "steps_per_epoch": _steps_per_epoch(trainer),
        "batch_size": args.train_batch_size,
        "accumulation": args.gradient_accumulation_steps,
        "world_size": args.world_size,
        "precision": mixed or pure,
        "grad_scaler": True if args.fp16 else None,
        "clip_norm": args.max_grad_norm or None,
        "distributed": "fsdp" if getattr(args, "fsdp", None) else "ddp" if mode == "distributed" else None,
        "find_unused_parameters": getattr(args, "ddp_find_unused_parameters", None),
        "callbacks": [type(callback).__name__ for callback in trainer.callback_handler.callbacks],
    }


class Batches:
    """The Trainer's training batches; its loader is made when they are asked for."""

    def __init__(self, loader: Callable[[], Any]) -> None:
        self._loader = loader

    @property
    def trainer(self) -> Any:
        """The Trainer whose method makes the loader, else this object itself."""
        return getattr(self._loader, "__self__", self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader())
