"""The comparisons of a policy: ``">= 0, < 0.1"``. Values are compared, nothing is evaluated."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


_PART = re.compile(r"\s*(==|!=|<=|>=|<|>)?\s*(.+?)\s*")


_NUMERIC = re.compile(r"[+-]?\.?\d")


_WORDS = {"true": True, "false": False, "none": None}


Condition = tuple[str, Any]


def parse(text: Any) -> list[Condition]:
    """``">= 0, < 0.1"`` as comparisons that must all hold; a plain value must be equal. Raises ValueError."""
    if not isinstance(text, str):
        return [("==", text)]
    conditions: list[Condition] = []
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{text!r} has an empty comparison")
        value = _value(found[2])
        if found[2][0] in "<>=!~" or (isinstance(value, str) and _NUMERIC.match(value)):
            raise ValueError(f"{part.strip()!r} is no comparison; write {', '.join(OPERATORS)} and one value")
        if value != value:
            raise ValueError("nothing compares with nan")
        if found[1] in ("<", ">", "<=", ">=") and not isinstance(value, float):
            raise ValueError(f"{found[1]} needs a number, not {found[2]!r}")
        conditions.append((found[1] or "==", value))
    return conditions


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text.strip("\"'")
