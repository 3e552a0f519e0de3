"""Remember what a function said about a class."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def per_class(function: Callable[P, T]) -> Callable[P, T]:
    """A bounded cache (a notebook defines its classes again and again) that keeps the function's signature."""
    return cast(Callable[P, T], lru_cache(maxsize=4096)(function))
