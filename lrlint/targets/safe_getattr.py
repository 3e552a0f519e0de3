"""Ask objects of the user's for attributes."""

from __future__ import annotations

from typing import Any


def attribute(item: Any, name: str, default: Any = None) -> Any:
    """``getattr`` that treats an object whose lookup raises anything at all as one without the attribute.

    A ``__getattr__`` or a property may raise what it likes; a linter that only looks must not fall over it.
    """
    try:
        return getattr(item, name, default)
    except Exception:
        return default


def is_on(value: Any) -> bool:
    """Whether a flag of the user's is set; the truth of a tensor or of an odd object is not asked for."""
    return isinstance(value, (bool, int)) and bool(value)
