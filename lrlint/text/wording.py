"""Words and numbers as messages give them, shared by the rules."""

from __future__ import annotations

import math
from collections.abc import Iterable

#: Group keys by which training code scales the rate of one group (timm, MAE, mmengine, Megatron, ...).
MULTIPLIER_KEYS = ("lr_scale", "lr_mult", "lr_mul", "lr_multiplier", "lr_ratio", "my_lr_scale")


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 group``, ``3 groups``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def number(value: float | None) -> str:
    """A rate or similar to three digits: ``0.001``, ``3e-05``; ``None`` where there is none."""
    return "None" if value is None else f"{value:.3g}"


def rate(value: float) -> str:
    """A learning rate as it is written in code: ``1e-04``, ``2.5e-05``, ``0.05``."""
    if value == 0 or abs(value) >= 0.01 or not math.isfinite(value):
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def times(factor: float) -> str:
    """A factor as people read it: ``1.5``, ``61``, ``17,000``."""
    if not math.isfinite(factor) or factor >= 1e9:
        return f"{factor:.1e}"
    if factor < 1000:
        return f"{factor:.3g}"
    return f"{round(factor, 1 - math.floor(math.log10(factor))):,.0f}"


def listing(items: Iterable[str], last: str = "and") -> str:
    """``a, b and c``."""
    words = list(items)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
