"""The JSON Schema of a setup snapshot, derived from the facts' annotations.

``python -m lrlint.facts.snapshot_schema`` prints it; the shipped ``schemas/setup.json`` is its output (a test compares them).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union

from lrlint.facts.parameters import Parameter
from lrlint.facts.setup import SCHEMA, Setup


def setup_schema() -> dict[str, Any]:
    """The schema as plain data. A parameter stands in full in ``parameters`` only; elsewhere its index refers to it."""
    definitions: dict[str, Any] = {}
    body = _table(Setup, definitions)
    body["properties"] = {"schema": {"const": SCHEMA}, **body["properties"]}
    body["properties"]["parameters"] = {"type": "array", "items": _reference(Parameter, definitions)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:lrlint:setup",
        "title": "lrlint setup snapshot",
        **body,
        "required": ["schema"],
        "$defs": dict(sorted(definitions.items())),
    }


def _table(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return {
        "type": "object",
        "properties": {item.name: _schema(hints[item.name], definitions) for item in fields(cls)},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _reference(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # a fact may refer to itself
        definitions[cls.__name__] = _table(cls, definitions)
    return {"$ref": f"#/$defs/{cls.__name__}"}


_NUMBER = {
    "anyOf": [
        {"type": "number"},
        {"type": "object", "properties": {"float": {"type": "string"}}, "required": ["float"]},
    ]
}
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: _NUMBER,
    Parameter: {"type": "integer", "minimum": 0},
    Any: {},
}


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if a is type(None) else _schema(a, definitions) for a in arguments]}
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = [_schema(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, frozenset):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    return _reference(hint, definitions) if is_dataclass(hint) else {}


if __name__ == "__main__":
    import json

    print(json.dumps(setup_schema(), indent=2))
