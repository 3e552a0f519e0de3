"""A LightningModule: the optimizers it configures, and what its Trainer declares about the run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from lrlint.facts import Note
from lrlint.inspection.outcome import Nonsense, describe, is_optimizer, is_scheduler
from lrlint.inspection.spans import Recording

#: What a stand-in for a Trainer says where nobody declared a number of steps.
_ASSUMED_STEPS = 1000
_CONFIG_KEYS = frozenset({"scheduler", "name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict"})


def configure(module: Any, known: Mapping[str, Any], recording: Recording) -> tuple[Any, list[Note]]:
    """What the module's `configure_optimizers` returns. A stand-in Trainer is lent to it only where it asks for one."""
    before = recording.mark()
    try:
        return module.configure_optimizers(), []
    except (RuntimeError, AttributeError, TypeError):
        if getattr(module, "_trainer", None) is not None or getattr(module, "_fabric", None) is not None:
            raise
    recording.rewind(before)  # what was built until it asked is built anew
    trainer = _StandIn(module, known)
    with _lent(module, trainer):
        result = module.configure_optimizers()
    reason = "configure_optimizers asked its Trainer for the number of steps, and none is attached"
    return result, [Note("total_steps", f"{reason}: {_ASSUMED_STEPS} were assumed")] if trainer.assumed else []


class _StandIn:
    """As much of a Trainer as `configure_optimizers` reads. ``assumed``: it read a number that nobody declared."""

    def __init__(self, module: Any, known: Mapping[str, Any]) -> None:
        hparams = getattr(module, "hparams", {})
        places = (known, hparams if isinstance(hparams, Mapping) else {}, vars(module))
        self._steps = _first(places, "total_steps", "max_steps", "num_training_steps")
        self._per_epoch = _first(places, "steps_per_epoch")
        self._epochs = _first(places, "max_epochs", "num_epochs", "epochs")
        self.assumed = False
        self.accumulate_grad_batches = int(_first(places, "accumulation", "accumulate_grad_batches") or 1)
        self.world_size = self.num_devices = int(known.get("world_size") or 1)
        self.num_nodes = 1
        self.global_step = self.current_epoch = self.global_rank = self.local_rank = 0
        self.is_global_zero = True
        self.datamodule = self.logger = self.train_dataloader = None
        self.loggers: list[Any] = []
        self.callbacks: list[Any] = []

    @property
    def estimated_stepping_batches(self) -> int:
        if self._steps is None and self._per_epoch and self._epochs:
            return int(self._per_epoch * self._epochs)
        self.assumed = self.assumed or self._steps is None
        return int(self._steps or _ASSUMED_STEPS)

    @property
    def max_steps(self) -> int:
        return self.estimated_stepping_batches

    @property
    def max_epochs(self) -> int:
        return int(self._epochs or max(1, self.estimated_stepping_batches // self._batches()))

    @property
    def num_training_batches(self) -> int:
        return self._batches()

    def _batches(self) -> int:
        if self._per_epoch:
            return int(self._per_epoch) * self.accumulate_grad_batches
        self.assumed = True
        return max(1, _ASSUMED_STEPS // 10)


def _first(places: Sequence[Mapping[str, Any]], *names: str) -> float | None:
    for place in places:
        for name in names:
            value = place.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
                return value
    return None


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
    raise Nonsense(f"configure_optimizers returned {describe(result)}")


def _from_dict(result: Mapping[str, Any], also: tuple[str, ...]) -> tuple[list[Any], list[tuple[Any, dict[str, Any]]]]:
    if not is_optimizer(result.get("optimizer")):
        raise Nonsense(f"configure_optimizers returned a dict with {describe(result.get('optimizer'))} as 'optimizer'")
    stray = sorted(str(key) for key in result if key not in ("optimizer", "lr_scheduler", "monitor", *also))
    scheduler = result.get("lr_scheduler")
    if scheduler is None:
        return [result["optimizer"]], []
    return [result["optimizer"]], [parse_scheduler(scheduler, {"monitor": result.get("monitor"), "stray": stray})]


def parse_scheduler(scheduler: Any, beside: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(scheduler, config) of a scheduler or of the dict around it; see `parse_result`."""
    written = scheduler if isinstance(scheduler, Mapping) else {"scheduler": scheduler}
    if not is_scheduler(written.get("scheduler")):
        raise Nonsense(f"configure_optimizers returned {describe(scheduler)} where a scheduler is expected")
    plateau = isinstance(written["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    config = {"interval": "epoch", "frequency": 1, "reduce_on_plateau": plateau, "strict": True, "name": None}
    config.update({key: value for key, value in written.items() if key != "scheduler"})
    config["monitor"] = written.get("monitor", beside.get("monitor"))
    config["framework"] = "lightning"
    config["written"] = sorted(str(key) for key in written if key != "scheduler")
    config["unknown"] = sorted(str(key) for key in written if key not in _CONFIG_KEYS)
    config["stray"] = list(beside.get("stray", ()))
    return written["scheduler"], config


def declared(trainer: Any) -> dict[str, Any]:
    """What a Lightning Trainer declares about the run."""
    if trainer is None or isinstance(trainer, _StandIn):
        return {}
    strategy = type(getattr(trainer, "strategy", None)).__name__.lower()
    norm = getattr(trainer, "gradient_clip_algorithm", None)
    clip = getattr(trainer, "gradient_clip_val", None)
    precision = str(getattr(trainer, "precision", "") or "")
    epochs = getattr(trainer, "max_epochs", None)
    return {
        "total_steps": _lightning_steps(trainer),
        "accumulation": getattr(trainer, "accumulate_grad_batches", None),
        "world_size": getattr(trainer, "world_size", None),
        "precision": precision if precision.split("-")[0] in ("16", "bf16", "32", "64") else None,
        "grad_scaler": True if precision == "16-mixed" else None,
        "clip_norm": clip if clip and str(getattr(norm, "value", norm) or "norm") == "norm" else None,
        "distributed": next((kind for kind in ("ddp", "fsdp", "deepspeed") if kind in strategy), None),
        "max_epochs": epochs if isinstance(epochs, int) and epochs > 0 else None,
        "callbacks": [type(callback).__name__ for callback in getattr(trainer, "callbacks", ())],
    }


def _lightning_steps(trainer: Any) -> int | None:
    """The number of optimizer steps, where the Trainer knows it without loading data."""
    steps = getattr(trainer, "max_steps", -1)
    epochs = getattr(trainer, "max_epochs", None)
    if getattr(trainer, "train_dataloader", None) is not None:
        with contextlib.suppress(Exception):
            estimate = trainer.estimated_stepping_batches
            return int(estimate) if 0 < estimate < math.inf else None
    return int(steps) if isinstance(steps, int) and steps > 0 and (epochs is None or epochs == -1) else None
