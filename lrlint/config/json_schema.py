"""Check data against one of the shipped JSON Schemas, with messages that name the place.

Only the keywords those schemas use are understood; an unknown one is an error, so that none is silently ignored.
"""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Key = tuple[str | int, ...]

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
_SILENT = frozenset({"$schema", "$id", "$defs", "title", "description", "properties"})


@dataclass(frozen=True)
class Problem:
    """What does not fit, at which key."""

    at: Key
    message: str


@cache
def load(name: str) -> Any:
    """A shipped schema: ``config``, ``findings``, ``setup`` or ``diff``."""
    return json.loads((Path(__file__).parent / "schemas" / f"{name}.json").read_text(encoding="utf-8"))


def problems(data: Any, schema: Mapping[str, Any]) -> list[Problem]:
    """Every place where the data does not fit the schema, in order."""
    return list(_check(data, schema, schema, ()))


def place(at: Key) -> str:
    """``optimizers[0].groups[1].lr``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at).lstrip(".")


def suggestion(wrong: str, known: list[str]) -> str:
    """``; did you mean ...?`` or the list of what there is."""
    near = difflib.get_close_matches(wrong, known, n=2, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def _check(data: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: Key) -> Iterator[Problem]:
    for keyword, wanted in schema.items():
        if keyword == "$ref":
            yield from _check(data, root["$defs"][wanted.rpartition("/")[2]], root, at)
        elif keyword in _CHECKS:
            yield from _CHECKS[keyword](data, wanted, schema, root, at)
        elif keyword not in _SILENT:
            raise ValueError(f"schema keyword {keyword!r} is not supported")
    if isinstance(data, dict):
        for key, inner in schema.get("properties", {}).items():
            if key in data:
                yield from _check(data[key], inner, root, (*at, key))


def _is(data: Any, name: str) -> bool:
    if isinstance(data, bool) and name in ("integer", "number"):
        return False
    return isinstance(data, _TYPES[name])


def _article(name: str) -> str:
    words = {"object": "a table", "array": "a list", "integer": "an integer", "boolean": "true or false"}
    return words.get(name, f"a {name}")


def _type(data: Any, wanted: Any, *_: Any) -> Iterator[Problem]:
    at: Key = _[-1]
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not any(_is(data, name) for name in names):
        found = next((_article(name) for name in _TYPES if _is(data, name)), type(data).__name__)
        yield Problem(at, f"is {found}, expected {' or '.join(_article(name) for name in names)}")


def _enum(data: Any, wanted: list[Any], *_: Any) -> Iterator[Problem]:
    if data not in wanted:
        near = suggestion(data, wanted) if isinstance(data, str) else ""
        yield Problem(_[-1], f"is {data!r}{near or '; one of ' + ', '.join(map(str, wanted))}")


def _pattern(data: Any, wanted: str, *_: Any) -> Iterator[Problem]:
    if isinstance(data, str) and not re.search(wanted, data):
        yield Problem(_[-1], f"is {data!r}, which does not have the form {wanted}")


def _format(data: Any, wanted: str, *_: Any) -> Iterator[Problem]:
    if wanted != "date":
        raise ValueError(f"schema format {wanted!r} is not supported")
    try:
        if isinstance(data, str):
            datetime.date.fromisoformat(data)
    except ValueError:
        yield Problem(_[-1], f"is {data!r}, expected a date such as 2027-01-31")


def _min_length(data: Any, wanted: int, *_: Any) -> Iterator[Problem]:
    if isinstance(data, str) and len(data) < wanted:
        yield Problem(_[-1], "is empty")


def _min_properties(data: Any, wanted: int, *_: Any) -> Iterator[Problem]:
    if isinstance(data, dict) and len(data) < wanted:
        yield Problem(_[-1], "is empty")


def _min_items(data: Any, wanted: int, *_: Any) -> Iterator[Problem]:
    if isinstance(data, list) and len(data) < wanted:
        yield Problem(_[-1], f"has {len(data)} items, expected at least {wanted}" if data else "is empty")


def _minimum(data: Any, wanted: float, *_: Any) -> Iterator[Problem]:
    if _is(data, "number") and data < wanted:
        yield Problem(_[-1], f"is {data}, expected at least {wanted}")


def _above(data: Any, wanted: float, *_: Any) -> Iterator[Problem]:
    if _is(data, "number") and data <= wanted:
        yield Problem(_[-1], f"is {data}, expected more than {wanted}")


def _max_items(data: Any, wanted: int, *_: Any) -> Iterator[Problem]:
    if isinstance(data, list) and len(data) > wanted:
        yield Problem(_[-1], f"has {len(data)} items, expected at most {wanted}")


def _const(data: Any, wanted: Any, *_: Any) -> Iterator[Problem]:
    if data != wanted:
        yield Problem(_[-1], f"is {data!r}, expected {wanted!r}")


def _prefix_items(data: Any, wanted: list[Any], schema: Any, root: Any, at: Key) -> Iterator[Problem]:
    if isinstance(data, list):
        for index, (item, inner) in enumerate(zip(data, wanted, strict=False)):
            yield from _check(item, inner, root, (*at, index))


def _items(data: Any, wanted: Mapping[str, Any], schema: Any, root: Any, at: Key) -> Iterator[Problem]:
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from _check(item, wanted, root, (*at, index))


def _required(data: Any, wanted: list[str], *_: Any) -> Iterator[Problem]:
    if isinstance(data, dict):
        yield from (Problem(_[-1], f"lacks {key!r}") for key in wanted if key not in data)


def _additional(data: Any, wanted: Any, schema: Any, root: Any, at: Key) -> Iterator[Problem]:
    if not isinstance(data, dict):
        return
    known = list(schema.get("properties", {}))
    for key in data:
        if key in known:
            continue
        if wanted is False:
            yield Problem((*at, key), f"unknown key {key!r}{suggestion(str(key), known)}")
        elif wanted is not True:
            yield from _check(data[key], wanted, root, (*at, key))


def _any_of(data: Any, wanted: list[Any], schema: Any, root: Any, at: Key) -> Iterator[Problem]:
    tried = [list(_check(data, option, root, at)) for option in wanted]
    if all(tried):
        furthest = max(tried, key=lambda found: max(len(problem.at) for problem in found))
        deeper = max(len(problem.at) for problem in furthest) > len(at)
        # The option that got furthest says the most useful thing; where none got anywhere, all count.
        yield from furthest if deeper else [Problem(at, ", or ".join(found[0].message for found in tried))]


_CHECKS: dict[str, Any] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "format": _format,
    "minLength": _min_length,
    "minProperties": _min_properties,
    "minItems": _min_items,
    "minimum": _minimum,
    "exclusiveMinimum": _above,
    "maxItems": _max_items,
    "const": _const,
    "prefixItems": _prefix_items,
    "items": _items,
    "required": _required,
    "additionalProperties": _additional,
    "anyOf": _any_of,
}
