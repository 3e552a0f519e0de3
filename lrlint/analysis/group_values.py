"""Values of a parameter group's options that no optimizer can work with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

_NUMBERS = ("lr", "weight_decay", "eps", "momentum", "alpha", "rho")


def invalid_values(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(option, what is wrong with its value) of a group: text, not finite, below 0, betas outside [0, 1)."""
    for key in _NUMBERS:
        value = options.get(key)
        value = value.get("tensor", 0.0) if isinstance(value, dict) else value
        if isinstance(value, str):
            yield key, f"{value!r}, a text"
        elif isinstance(value, (int, float)) and (not math.isfinite(value) or value < 0):
            yield key, f"{value}"
    betas = options.get("betas")
    numbers = betas if isinstance(betas, (list, tuple)) else ()
    if any(isinstance(beta, str) or (isinstance(beta, (int, float)) and not 0 <= beta < 1) for beta in numbers):
        yield "betas", f"{tuple(numbers)}, outside [0, 1)"
