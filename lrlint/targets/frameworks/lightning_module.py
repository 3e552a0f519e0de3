"""A LightningModule: the optimizers it configures, and what its Trainer declares about the run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from lrlint.facts import Note
from lrlint.targets.frameworks.lightning_trainer import ASSUMED_STEPS, StandIn, has_data
from lrlint.targets.provenance.recorder import ConstructionRecorder
from lrlint.targets.returned import NotASetup, describe, is_optimizer, is_scheduler
from lrlint.targets.user_traceback import advise

_ADVICE = 'before any `fit`; write a factory that returns {"model": module, "trainer": trainer, "datamodule": data}'
_LIGHTNING = ("lightning.", "pytorch_lightning.")
_CONFIG_KEYS = frozenset({"scheduler", "name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict"})


def configure(
    module: Any, known: Mapping[str, Any], recording: ConstructionRecorder, fresh: bool = False
) -> tuple[Any, list[Note]]:
    """What the module's `configure_optimizers` returns.

    A stand-in Trainer is lent to it where it asks for one, or where its own has no data. ``fresh``: the module was made
    for lrlint, and the hooks that Lightning calls before may change it: `configure_model`, and `setup` where
    `configure_optimizers` fails without it. Raises Nonsense, and what the module's code raises.
    """
    if not _overrides(module, "configure_optimizers"):
        raise NotASetup(f"{type(module).__name__}, a LightningModule without configure_optimizers")
    before, own = recording.mark(), getattr(module, "_trainer", None)
    if has_data(own) or getattr(module, "_fabric", None) is not None:
        return module.configure_optimizers(), []
    trainer = StandIn(module, known, own)
    notes = _configure_model(module, trainer) if fresh and _overrides(module, "configure_model") else []
    if own is None:
        try:
            return module.configure_optimizers(), notes
        except (RuntimeError, AttributeError, TypeError):
            recording.rewind(before)  # what was built until it asked is built anew
    with _lent(module, trainer):
        result = _with_setup(module, trainer, recording, fresh and _overrides(module, "setup"))
    if trainer.assumed:
        lack = "none is attached" if own is None else "it has no training data"
        reason = f"configure_optimizers asked its Trainer for the number of steps, and {lack}"
        notes.append(Note("total_steps", f"{reason}: {ASSUMED_STEPS} were assumed"))
    return result, notes


def _with_setup(module: Any, trainer: StandIn, recording: ConstructionRecorder, may_set_up: bool) -> Any:
    """`configure_optimizers`, after `setup` where it fails without."""
    before = recording.mark()
    try:
        try:
            return module.configure_optimizers()
        except Exception:
            if not may_set_up:
                raise
        recording.rewind(before)
        module.setup("fit")
        return module.configure_optimizers()
    except Exception as error:
        if trainer.asked:
            advise(error, f"it asked its Trainer for {trainer.asked!r} {_ADVICE}")
        raise


def _configure_model(module: Any, trainer: StandIn) -> list[Note]:
    """Let the module make its layers. What cannot be made without processes or devices is noted."""
    with _lent(module, trainer):
        try:
            module.configure_model()
        except Exception as error:
            return [Note("model", f"configure_model raised {type(error).__name__}: {error}")]
    return []


def _overrides(module: Any, hook: str) -> bool:
    """Whether the user's class, or the module itself, defines the hook."""
    if hook in vars(module):
        return True
    owner = next((base for base in type(module).__mro__ if hook in vars(base)), object)
    return not owner.__module__.startswith(_LIGHTNING)


def attached(module: Any, trainer: Any) -> contextlib.AbstractContextManager[None]:
    """The module with the Trainer that came along with it, unless it has one."""
    return _lent(module, trainer) if trainer is not None and module._trainer is None else contextlib.nullcontext()


@contextlib.contextmanager
def _lent(module: Any, trainer: Any) -> Iterator[None]:
    modules = [item for item in module.modules() if hasattr(item, "configure_optimizers") and "_trainer" in vars(item)]
    before = [item._trainer for item in modules]
    try:
        for item in modules:
            item._trainer = trainer
        yield
    finally:
        for item, old in zip(modules, before, strict=True):
            item._trainer = old


def parse_result(result: Any) -> tuple[list[Any], list[tuple[Any, dict[str, Any]]]]:
    """(optimizers, [(scheduler, config)]) of any result that `configure_optimizers` may have. Raises Nonsense.

    A config has Lightning's defaults filled in; ``written`` are the keys the user wrote, ``unknown`` those among them
    that Lightning does not know, ``stray`` those that stand beside "optimizer" where Lightning ignores them.
    """
    if result is None:
        return [], []
    if is_optimizer(result):
        return [result], []
    if isinstance(result, Mapping):
        return _from_dict(result, ())
    if isinstance(result, (list, tuple)) and result:
        if all(is_optimizer(item) for item in result):
            return list(result), []
        if all(isinstance(item, Mapping) and "optimizer" in item for item in result):
            parts = [_from_dict(item, ("frequency",)) for item in result]
            return [o for found, _ in parts for o in found], [s for _, found in parts for s in found]
        if len(result) == 2 and isinstance(result[0], (list, tuple)) and all(is_optimizer(item) for item in result[0]):
            schedulers = result[1] if isinstance(result[1], (list, tuple)) else [result[1]]
            return list(result[0]), [parse_scheduler(item, {}) for item in schedulers if item is not None]
    raise NotASetup(f"configure_optimizers returned {describe(result)}")


def _from_dict(result: Mapping[str, Any], also: tuple[str, ...]) -> tuple[list[Any], list[tuple[Any, dict[str, Any]]]]:
    if not is_optimizer(result.get("optimizer")):
        raise NotASetup(f"configure_optimizers returned a dict with {describe(result.get('optimizer'))} as 'optimizer'")
    stray = sorted(str(key) for key in result if key not in ("optimizer", "lr_scheduler", "monitor", *also))
    scheduler = result.get("lr_scheduler")
    if scheduler is None:
        return [result["optimizer"]], []
    return [result["optimizer"]], [parse_scheduler(scheduler, {"monitor": result.get("monitor"), "stray": stray})]


def parse_scheduler(scheduler: Any, beside: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(scheduler, config) of a scheduler or of the dict around it; see `parse_result`."""
    written = scheduler if isinstance(scheduler, Mapping) else {"scheduler": scheduler}
    if not is_scheduler(written.get("scheduler")):
        raise NotASetup(f"configure_optimizers returned {describe(scheduler)} where a scheduler is expected")
    plateau = isinstance(written["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    config = {"interval": "epoch", "frequency": 1, "reduce_on_plateau": plateau, "strict": True, "name": None}
    config.update({key: value for key, value in written.items() if key != "scheduler"})
    config["monitor"] = written.get("monitor", beside.get("monitor"))
    config["framework"] = "lightning"
    config["written"] = sorted(str(key) for key in written if key != "scheduler")
    config["unknown"] = sorted(str(key) for key in written if key not in _CONFIG_KEYS)
    config["stray"] = list(beside.get("stray", ()))
    return written["scheduler"], config


def declared(trainer: Any, batches: Any = None) -> dict[str, Any]:
    """What a Lightning Trainer declares about the run; ``batches`` is the training set that came with it."""
    if trainer is None or isinstance(trainer, StandIn):
        return {}
    strategy = type(getattr(trainer, "strategy", None)).__name__.lower()
    norm = getattr(trainer, "gradient_clip_algorithm", None)
    clip = getattr(trainer, "gradient_clip_val", None)
    precision = str(getattr(trainer, "precision", "") or "")
    epochs = getattr(trainer, "max_epochs", None)
    per_epoch = _steps_per_epoch(trainer, batches)
    loader = batches if isinstance(batches, DataLoader) else _loader(trainer)
    return {
        "total_steps": _lightning_steps(trainer, per_epoch),
        "steps_per_epoch": per_epoch,
        "batch_size": getattr(loader, "batch_size", None),
        "accumulation": getattr(trainer, "accumulate_grad_batches", None),
        "world_size": getattr(trainer, "world_size", None),
        "precision": precision if precision.split("-")[0] in ("16", "bf16", "32", "64") else None,
        "grad_scaler": True if precision == "16-mixed" else None,
        "clip_norm": clip if clip and str(getattr(norm, "value", norm) or "norm") == "norm" else None,
        "distributed": next((kind for kind in ("ddp", "fsdp", "deepspeed") if kind in strategy), None),
        "max_epochs": epochs if isinstance(epochs, int) and epochs > 0 else None,
        "joins_later": ["backbone.**"] if _finetunes_backbone(trainer) else None,
        "callbacks": [type(callback).__name__ for callback in getattr(trainer, "callbacks", ())],
    }


def _steps_per_epoch(trainer: Any, batches: Any) -> int | None:
    """Optimizer steps in a pass over the training set: the Trainer's own count, else that of a loader it has not seen."""
    if has_data(trainer):
        own = getattr(trainer, "num_training_batches", None)
        if isinstance(own, (int, float)) and 0 < own < math.inf:
            return math.ceil(own / (getattr(trainer, "accumulate_grad_batches", None) or 1))
    if not isinstance(batches, DataLoader):
        return None
    try:
        count = len(batches)
    except TypeError:  # an iterable dataset
        return None
    limit = getattr(trainer, "limit_train_batches", None)
    count = min(count, limit) if isinstance(limit, int) else int(count * limit) if isinstance(limit, float) else count
    return math.ceil(count / (getattr(trainer, "accumulate_grad_batches", None) or 1)) or None


def _finetunes_backbone(trainer: Any) -> bool:
    """Whether Lightning's BackboneFinetuning will unfreeze the module's ``backbone`` and add a group for it."""
    kinds = [base for callback in getattr(trainer, "callbacks", ()) for base in type(callback).__mro__]
    return any(k.__name__ == "BackboneFinetuning" and k.__module__.startswith(_LIGHTNING) for k in kinds)


def _loader(trainer: Any) -> Any:
    """The loader of a Trainer that has loaded its training set."""
    return trainer.train_dataloader if has_data(trainer) else None


def _lightning_steps(trainer: Any, per_epoch: int | None) -> int | None:
    """The number of optimizer steps, where it is known without loading data."""
    steps = getattr(trainer, "max_steps", -1)
    epochs = getattr(trainer, "max_epochs", None)
    if has_data(trainer):
        with contextlib.suppress(Exception):
            estimate = trainer.estimated_stepping_batches
            return int(estimate) if 0 < estimate < math.inf else None
    limits = [int(steps)] if isinstance(steps, int) and steps > 0 else []
    if isinstance(epochs, int) and epochs > 0:
        if per_epoch is None:
            return None
        limits.append(epochs * per_epoch)
    return min(limits, default=None)
