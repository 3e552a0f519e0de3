"""Exponents of the width."""

from __future__ import annotations

import math
from collections.abc import Sequence


def slope(widths: Sequence[float], sizes: Sequence[float | None]) -> float | None:
    """The slope of log(size) over log(width), by least squares; None where a size is missing, zero or not finite."""
    if len(sizes) != len(widths) or any(s is None or not math.isfinite(s) or s <= 0 for s in sizes):
        return None
    xs = [math.log(width) for width in widths]
    ys = [math.log(size) for size in sizes if size is not None]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if not spread:
        return None
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
