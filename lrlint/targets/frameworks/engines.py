"""What accelerate's Accelerator and Lightning's Fabric say about the run around them; neither library is imported."""

from __future__ import annotations

import contextlib
import math
from typing import Any

#: How the two call what lrlint calls ``ddp``, ``fsdp`` and ``deepspeed``.
_DISTRIBUTED = (("deepspeed", "deepspeed"), ("fsdp", "fsdp"), ("ddp", "ddp"), ("multi_", "ddp"))


def is_engine(item: Any) -> bool:
    """Whether it is an Accelerator or a Fabric."""
    return any(
        (base.__name__, base.__module__.partition(".")[0]) in _ENGINES or base.__module__ == "lightning.fabric.fabric"
        for base in type(item).__mro__
    )


_ENGINES = {("Accelerator", "accelerate"), ("Fabric", "lightning_fabric")}


def declared(engine: Any) -> dict[str, Any]:
    """The run's facts, by the names of `Training`; {} for None. What the engine does not know is None."""
    if engine is None:
        return {}
    return _of_accelerator(engine) if hasattr(engine, "gradient_state") else _of_fabric(engine)


def _of_accelerator(accelerator: Any) -> dict[str, Any]:
    accumulation = getattr(accelerator, "gradient_accumulation_steps", None)
    loader = getattr(accelerator.gradient_state, "active_dataloader", None)
    precision = getattr(accelerator, "mixed_precision", "no")
    return {
        "accumulation": accumulation,
        "world_size": getattr(accelerator, "num_processes", None),
        "precision": f"{precision}-mixed" if precision in ("fp16", "bf16") else None,
        "grad_scaler": getattr(accelerator, "scaler", None),
        "distributed": _kind(getattr(getattr(accelerator, "distributed_type", None), "value", "")),
        "steps_per_epoch": _steps(loader, accumulation),
        "batch_size": getattr(getattr(loader, "batch_sampler", loader), "batch_size", None),
    }


def _of_fabric(fabric: Any) -> dict[str, Any]:
    strategy = getattr(fabric, "strategy", None)
    precision = str(getattr(getattr(strategy, "precision", None), "precision", ""))
    return {
        "world_size": getattr(fabric, "world_size", None),
        "precision": precision if precision.partition("-")[0] in ("16", "bf16", "32", "64") else None,
        "grad_scaler": getattr(getattr(strategy, "precision", None), "scaler", None),
        "distributed": _kind(type(strategy).__name__),
    }


def _kind(name: str) -> str | None:
    return next((kind for part, kind in _DISTRIBUTED if part in name.lower()), None)


def _steps(loader: Any, accumulation: Any) -> int | None:
    """Optimizer steps in a pass over the loader; accelerate takes one at its end whatever was accumulated."""
    with contextlib.suppress(TypeError, NotImplementedError):
        return math.ceil(len(loader) / (accumulation or 1)) or None
    return None
