"""What the user declared about the run, as `Training` facts."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any

import torch

from lrlint.errors import UsageError
from lrlint.facts import Training

_ALIASES = {
    "max_steps": "total_steps",
    "num_training_steps": "total_steps",
    "gradient_accumulation_steps": "accumulation",
    "accumulate_grad_batches": "accumulation",
    "max_grad_norm": "clip_norm",
    "gradient_clip_val": "clip_norm",
    "scaler": "grad_scaler",
}
#: Levels of nested containers that are kept of a declared value.
_DEPTH = 6
_COUNTS = ("total_steps", "steps_per_epoch", "batch_size", "accumulation", "world_size")
_PRECISIONS = {
    "fp16-mixed": ("16-mixed", "16", "amp", "mixed", "mixed-fp16"),
    "bf16-mixed": ("mixed-bf16",),
    "fp16": ("16-true", "float16", "half"),
    "bf16": ("bf16-true", "bfloat16"),
    "fp32": ("32", "32-true", "float32", "float", "no", "tf32"),
    "fp64": ("64", "64-true", "float64", "double"),
}
_KNOWN = {spelling: name for name, spellings in _PRECISIONS.items() for spelling in (name, *spellings)}


def training(declared: Mapping[str, Any]) -> Training:
    """The facts of declared values; None and unknown names: the former is left out, the latter goes to ``options``.

    Raises UsageError naming the value that cannot be one.
    """
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    names = {item.name for item in fields(Training)} - {"options"}
    for key, value in declared.items():
        name = _ALIASES.get(key, key)
        if value is None:
            continue
        if name not in names:
            options[key] = _plain(value)
        elif (read := _read(name, key, value)) is not None:
            values.setdefault(name, read)
    return Training(**values, options=options)


def _read(name: str, key: str, value: Any) -> Any:
    if name in _COUNTS:
        return _count(key, value)
    if name == "precision":
        return precision(value)
    if name == "grad_scaler":
        return _scaler(value)
    if name == "clip_norm":
        return _number(key, value) or None
    if name == "find_unused_parameters":
        return bool(value)
    if name == "unfreezes":
        return (value,) if isinstance(value, str) else tuple(str(item) for item in value)
    return str(value)


def _count(key: str, value: Any) -> int | None:
    number = _number(key, value)
    if math.isinf(number):
        return None  # "without end" is no horizon
    if number != int(number) or number < 1:
        raise UsageError(f"{key} is {value!r}, and must be a positive whole number")
    return int(number)


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{key} is {value!r}, and must be a number") from None


def precision(value: Any) -> str:
    """``fp16-mixed``, ``bf16-mixed``, ``fp16``, ``bf16``, ``fp32`` or ``fp64`` from any common spelling."""
    text = str(value).removeprefix("torch.").lower().replace("_", "-")
    if text not in _KNOWN:
        near = difflib.get_close_matches(text, _KNOWN, n=1)
        raise UsageError(
            f"precision {value!r} is unknown"
            + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_PRECISIONS)}")
        )
    return _KNOWN[text]


def _scaler(value: Any) -> str | None:
    """The class of a gradient scaler that is on."""
    if isinstance(value, str):
        return value
    if value is False or (hasattr(value, "is_enabled") and not value.is_enabled()):
        return None
    kind = torch.amp.GradScaler if value is True else value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(value: Any, depth: int = _DEPTH) -> Any:
    """JSON data; an object, and what is nested too deeply (it may contain itself), is named by its type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return {"object": type(value).__qualname__}
